"""Connectors that an emulated replica can be asked to have."""

CONNECTORS = ("nixl", "mooncake", "lmcache", "sglang", "p2p_nccl", "offloading")

# vLLM's kv_lease_duration: how long what was computed for another replica is held for it.
LEASE_S = 30.0
