"""Training data: where they come from, and how hard negatives and teacher scores are made."""
