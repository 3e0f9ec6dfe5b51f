"""How retrievers are trained: losses, batches, the trainer."""
