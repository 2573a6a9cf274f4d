"""A prompt as the parts a chat template renders, in prompt order.

A segment's bytes identify what the model sees of it: who speaks, the texts raw, and at the end the
rest of the structure with the lengths of the texts. JSON has no raw NUL, so the joined form is
unambiguous; and since nothing before the texts depends on them, two segments that begin alike have
equal first blocks.
"""

from collections.abc import Sequence

import msgspec

# Compact JSON with sorted keys; numbers keep their form (1 and 1.0 differ), text is exact.
sorted_json = msgspec.json.Encoder(order="sorted").encode

# What a segment of a usual role begins with.
ROLES = {
    role: sorted_json(role) + b"\0"
    for role in ("system", "developer", "tools", "user", "assistant", "tool")
}

JsonValue = str | int | float | bool | list["JsonValue"] | dict[str, "JsonValue"] | None


class Segment(msgspec.Struct, frozen=True, gc=False):
    """`data` is hashed into the chain; `text_bytes` of it, from `text_start` on, are text from
    which tokens come."""

    data: bytes
    text_start: int
    text_bytes: int


def plain(role: str, text: bytes) -> Segment:
    """segment(role, [text], [1, None, None]), which most messages are, for one of ROLES."""
    head, size = ROLES[role], len(text)
    return Segment(b"".join((head, text, b"\0[[1,null,null],[%d]]" % size)), len(head), size)


def result(role: str, text: bytes, call_id: str) -> Segment:
    """segment(role, [text], [1, None, call_id]), which what tools say is, for one of ROLES."""
    head, size = ROLES[role], len(text)
    end = b"],[%d]]" % size
    data = b"".join((head, text, b"\0[[1,null,", sorted_json(call_id), end))
    return Segment(data, len(head), size)


def segment(opening: object, texts: Sequence[bytes], closing: object = None) -> Segment:
    """`opening` is known before the text (a role), `closing` is everything else that matters."""
    head = ROLES.get(opening) if isinstance(opening, str) else None
    if head is None:
        head = sorted_json(opening) + b"\0"
    text = b"\0".join(texts)
    end = sorted_json([closing, list(map(len, texts))])
    return Segment(b"".join((head, text, b"\0", end)), len(head), len(text))
