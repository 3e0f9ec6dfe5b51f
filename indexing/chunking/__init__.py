"""Documents cut into passages at their own structure."""
