"""Whole fleets of processes: several proxies, replicas, a real store."""
