"""How the checkpoints of other encoders (BERT, ...) map onto the backbone. Imports no torch."""
