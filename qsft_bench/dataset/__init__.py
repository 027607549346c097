"""Behaviour data: Parquet shards with a manifest (`store`), generation (`generate`), memory-mapped tokens (`tokens`)."""
