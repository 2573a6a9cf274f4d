"""Recorded conversations: values, formats, synthesis, statistics."""
