"""Collections of shards: immutable indexes that share a codec, and a manifest whose write is the commit."""
