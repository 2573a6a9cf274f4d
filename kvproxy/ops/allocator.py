"""What the C library does with memory that was freed: bodies come and go by the megabyte a second.

By itself glibc returns what is free at the heap's end again and again, and takes it back a page
fault at a time; and once a large body was freed, all of that size stay in the heap for good.
"""

import ctypes
import os
from collections.abc import Callable, Mapping

# Of mallopt(3).
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
# Beyond the first a block is the system's again when it is freed; below, the heap keeps as much as
# the second at its end. A turn of 400 KB is read without a page fault, and 4 MiB are most contexts.
_MMAP_BYTES, _KEPT_BYTES = 4 * 2**20, 16 * 2**20
_OPERATORS = ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_", "MALLOC_TOP_PAD_")

Mallopt = Callable[[int, int], int]


def settle(environ: Mapping[str, str] = os.environ, mallopt: Mallopt | None = None) -> bool:
    """Whether it was told so: not where the C library has no mallopt, or operators said
    otherwise. For a process before it serves."""
    tunables = environ.get("GLIBC_TUNABLES", "")
    if "glibc.malloc" in tunables or any(name in environ for name in _OPERATORS):
        return False
    mallopt = mallopt or getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    done = mallopt(_M_MMAP_THRESHOLD, _MMAP_BYTES)
    return bool(mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES) and done)
