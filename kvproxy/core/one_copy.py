"""Texts that very many conversations have in common, and that each of them keeps."""

from functools import lru_cache


@lru_cache(2048)
def one_copy(text: str) -> str:
    """The equal text that was seen before, if it was of late. `sys.intern` would do so for good: in
    Python 3.12 what it was told is never freed, and clients choose what it is told."""
    return text
