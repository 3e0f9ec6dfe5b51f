"""Text to vectors: dense and late-interaction encoders, and how checkpoints are loaded."""
