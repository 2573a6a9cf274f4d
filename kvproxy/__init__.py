"""A proxy that sends each turn of a conversation to the replica that holds its KV cache."""
