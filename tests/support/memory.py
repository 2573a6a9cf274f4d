"""What something that is bounded in bytes truly takes."""

import gc
import tracemalloc
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def taken(make: Callable[[], T]) -> tuple[T, int]:
    """What `make` made, and the bytes that are kept with it."""
    gc.collect()
    tracemalloc.start(1)
    try:
        before = tracemalloc.get_traced_memory()[0]
        made = make()
        gc.collect()
        return made, tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()


def assert_counted(real: int, counted: int) -> None:
    """A bound in bytes is one if what is counted is what is taken; Pythons differ by a fifth."""
    assert 0.7 < real / counted < 1.25, f"{real} bytes are taken where {counted} are counted"
