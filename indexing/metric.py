"""Metrics of dense vectors, in a module without numpy, which the command line loads at once."""

from typing import Literal

Metric = Literal["ip", "cosine"]
"""Inner product, or cosine: the inner product of two vectors divided by their lengths."""
