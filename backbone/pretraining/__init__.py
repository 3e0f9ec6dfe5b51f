"""Masked-language-model pretraining: tokenizer, shards, packing, masking, optimisation, phases."""
