"""What proxies share through a Valkey or Redis server."""
