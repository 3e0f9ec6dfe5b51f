"""Vectors and text at rest: readers, chunking, the SQLite store, segments and indexes."""
