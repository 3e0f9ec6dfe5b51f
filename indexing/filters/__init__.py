"""Which passages a search may find: conditions on metadata, and patterns in texts."""
