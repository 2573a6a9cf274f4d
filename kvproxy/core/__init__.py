"""Decides. Values in, values out; time is an argument; no IO."""
