"""ModernBERT: tokens in, token vectors out. Imports no sibling folder."""
