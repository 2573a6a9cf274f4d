"""The command line: what `kvproxy` followed by a word does."""

from kvproxy.cli.commands import main

__all__ = ["main"]
