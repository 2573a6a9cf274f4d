"""One number a segment: what it is, a digest of it, and one that overlooks what looks volatile.

Digests are short: they tell a person what happened to a prompt, and decide nothing.
"""

import re
from enum import IntEnum

from xxhash import xxh3_64_intdigest

from kvproxy.core.segments import Segment


class Kind(IntEnum):
    FRAME = 0
    SYSTEM = 1
    TOOL = 2
    USER = 3
    ASSISTANT = 4
    RESULT = 5


KINDS = len(Kind)
HEAD_KINDS = frozenset({Kind.FRAME, Kind.SYSTEM, Kind.TOOL})
_KINDS = {
    b'"system"': Kind.SYSTEM.value,
    b'"developer"': Kind.SYSTEM.value,
    b'"tools"': Kind.TOOL.value,
    b'"user"': Kind.USER.value,
    b'"assistant"': Kind.ASSISTANT.value,
    b'"tool"': Kind.RESULT.value,
}
# A digest's upper half, a loose digest, a kind. The kinds are plain numbers here, which are faster.
_FRAME, _SYSTEM = Kind.FRAME.value, Kind.SYSTEM.value
_LOOSE_BITS, _KIND_BITS = 24, 8
_EXACT_MASK = 0xFFFF_FFFF << _LOOSE_BITS + _KIND_BITS
KIND_MASK = (1 << _KIND_BITS) - 1
_OF_BITS = {kind.value: kind for kind in Kind}
# What dates, times, counters and hexadecimal ids are made of; names of days and months beside them.
_DIGITS = b"0123456789abcdefABCDEF"
_NAMES = re.compile(
    b"Monday|Tuesday|Wednesday|Thursday|Friday|Saturday|Sunday|January|February|March|April|May"
    b"|June|July|August|September|October|November|December"
)


def item_of(segment: Segment) -> int:
    data = segment.data
    kind = _KINDS.get(data[: segment.text_start - 1], _FRAME)
    if kind == _SYSTEM:
        kind |= _loose(data) << _KIND_BITS
    return xxh3_64_intdigest(data) & _EXACT_MASK | kind


def _loose(data: bytes) -> int:
    """A digest that overlooks what looks volatile; lengths at the end change with the text."""
    return xxh3_64_intdigest(_loosened(data[: data.rindex(b"\0")])) >> (64 - _LOOSE_BITS)


def _loosened(text: bytes) -> bytes:
    """Runs at memory speed: a system text may be long, and one that changes is read every turn."""
    return _NAMES.sub(b"", text).translate(None, _DIGITS)


def kind_of(packed: int) -> Kind:
    return _OF_BITS[packed & KIND_MASK]


def kind_bits(packed: int) -> int:
    """kind_of() for those in a hurry."""
    return packed & KIND_MASK


def loosely_equal(one: int, other: int) -> bool:
    """Whether two system texts differ in dates, numbers and the like alone."""
    mask = (1 << (_LOOSE_BITS + _KIND_BITS)) - 1
    return kind_of(one) is Kind.SYSTEM and one & mask == other & mask
