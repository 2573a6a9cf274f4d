"""Coding agents as their users install them, in front of kvproxy: `make test-agents`."""
