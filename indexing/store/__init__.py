"""The index on disk: one SQLite database as the only commit, vectors in immutable segment files."""
