"""Measures: replays agentic traces against any endpoint, and stands in for engines."""
