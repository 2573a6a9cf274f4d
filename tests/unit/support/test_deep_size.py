import sys
from array import array
from collections import OrderedDict

from msgspec import Struct

from tests.support.deep_size import deep_size


class Slotted:
    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        self.text = text


class Kept(Struct, gc=False):
    numbers: "array[int]"


def test_all_that_it_leads_to_counts_once() -> None:
    numbers, text = array("Q", range(1000)), "x" * 1000
    kept = [Kept(numbers), Slotted(text), Kept(numbers)]
    parts = [kept, *kept, numbers, text]
    assert deep_size(kept) == sum(map(sys.getsizeof, parts))
    filed = OrderedDict({1000: kept})
    assert deep_size(filed) == deep_size(kept) + sys.getsizeof(filed) + sys.getsizeof(1000)


def test_what_another_holds_is_not_its_own() -> None:
    shared = Slotted("y" * 500)
    seen: set[int] = set()
    first = deep_size([shared], seen)
    assert deep_size([shared], seen) == sys.getsizeof([shared]) < first


def test_cycles_end() -> None:
    ring: list[object] = []
    ring.append(ring)
    assert deep_size(ring) == sys.getsizeof(ring)
