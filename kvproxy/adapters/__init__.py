"""Touches the world: one module per kind of peer, none of which knows another."""
