"""Tells operators what happens: metrics, logs, explanations."""
