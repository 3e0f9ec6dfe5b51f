"""How fast: encoding and search, side by side with other libraries."""

OURS = "flatcoat"
"""Our name among the implementations and engines of a benchmark."""
