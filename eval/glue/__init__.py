"""GLUE: fine-tuning and measuring a backbone on sentence classification."""
