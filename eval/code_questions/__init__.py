"""The benchmark ``code-questions``: questions about 24 public packages, each asked of its package's files."""
