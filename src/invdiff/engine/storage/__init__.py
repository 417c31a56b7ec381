"""Files that are whole or not there: JSON, parquet, hashed tensors, shards, checkpoints."""
