"""Text in, results out: encoders, training and the Retriever."""
