"""What to train: YAML recipes, their schema and the runner."""
