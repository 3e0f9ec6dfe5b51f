"""How good and how fast: BEIR folders, metrics, runs and baselines."""
