"""How dense vectors are compared. On its own, as the command line reads it before anything loads numpy."""

from typing import Literal

Metric = Literal["ip", "cosine"]
"""By inner product, or by it once both vectors are divided by their lengths."""
