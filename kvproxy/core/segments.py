"""A prompt as the parts a chat template renders, in prompt order.

A segment's bytes identify what the model sees of it: `frame` holds the small structured part as
order-insensitive JSON together with the lengths of the texts, which follow it raw. JSON has no raw
NUL, so the joined form is unambiguous.
"""

from collections.abc import Sequence
from typing import NamedTuple

import msgspec

_SORTED = msgspec.json.Encoder(order="sorted")

JsonValue = str | int | float | bool | list["JsonValue"] | dict[str, "JsonValue"] | None


class Segment(NamedTuple):
    """`data` is hashed into the chain; `text_bytes` of it are text from which tokens come."""

    data: bytes
    text_bytes: int


def sorted_json(value: object) -> bytes:
    """Compact JSON with sorted keys; numbers keep their form (1 and 1.0 differ), text is exact."""
    return _SORTED.encode(value)


def segment(frame: object, texts: Sequence[bytes]) -> Segment:
    lengths = [len(text) for text in texts]
    data = b"".join((sorted_json([frame, lengths]), b"\0", *texts))
    return Segment(data, sum(lengths))
