"""The names of ``flatcoat.threads`` under their former place."""

from flatcoat.threads import cores, pieces, spread

__all__ = ["cores", "pieces", "spread"]
