"""Collections of shards: built shard by shard, searched as one index, here or on a cluster of Ray."""
