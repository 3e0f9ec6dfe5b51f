"""How fast: encoding and search, side by side with other libraries."""
