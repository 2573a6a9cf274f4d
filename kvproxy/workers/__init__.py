"""`server.workers` above 1: one process that places, several that read and relay, one that keeps
them all running.

supervise  starts the others, restarts what dies, passes signals on
placement  the process that knows the replicas and decides
worker     the processes that serve clients
"""
