"""Where the values of a JSON text lie, without building them.

msgspec skips a value it decodes as `Raw` at memory speed and hands back its exact bytes; adding up
their lengths and the separators between them gives byte offsets, so that a value can be replaced in
the client's own bytes. A text whose layout does not add up (escaped or repeated keys) has no spans:
None is returned and the caller leaves such a body alone.
"""

from typing import NamedTuple

import msgspec

_OBJECT: msgspec.json.Decoder[dict[str, msgspec.Raw]] = msgspec.json.Decoder(dict[str, msgspec.Raw])
_ARRAY: msgspec.json.Decoder[list[msgspec.Raw]] = msgspec.json.Decoder(list[msgspec.Raw])

_SPACE = b" \t\n\r"


class Span(NamedTuple):
    """A value: its bytes, and [start, end) in the text that was scanned plus `base`."""

    raw: bytes
    start: int
    end: int


def object_spans(text: bytes, base: int = 0) -> dict[str, Span] | None:
    """Members of a JSON object in document order; None if `text` is not an object laid out plainly.

    Raises msgspec.DecodeError if it is not JSON, RecursionError if it is nested too deeply.
    """
    try:
        members = _OBJECT.decode(text)
    except msgspec.ValidationError:
        return None
    except UnicodeDecodeError as error:
        raise msgspec.DecodeError(f"a key is not UTF-8: {error}") from error
    spans: dict[str, Span] = {}
    at = end = _after(text, 0, b"{")
    for key, value in members.items():
        name = b'"' + key.encode() + b'"'
        raw = bytes(value)
        start = _after(text, at + len(name), b":") if text.startswith(name, at) else -1
        if start < 0 or not text.startswith(raw, start):
            return None
        end = start + len(raw)
        spans[key] = Span(raw, base + start, base + end)
        at = _after(text, end, b",")
    # A repeated key collapses in the mapping, so that text would be left over before the brace.
    return spans if _after(text, end, b"}") == len(text) else None


def array_spans(text: bytes, base: int = 0) -> list[Span] | None:
    """Elements of a JSON array in order; None if `text` is not an array. Raises as object_spans."""
    try:
        elements = _ARRAY.decode(text)
    except msgspec.ValidationError:
        return None
    spans: list[Span] = []
    at = _after(text, 0, b"[")
    for value in elements:
        raw = bytes(value)
        assert text.startswith(raw, at), "an array has no keys to escape or repeat"
        end = at + len(raw)
        spans.append(Span(raw, base + at, base + end))
        # Nearly all bodies have a comma and at most one space here.
        mark = text[end : end + 3]
        if mark[:2] == b", " and mark[2:] not in _SPACE:
            at = end + 2
        else:
            at = _after(text, end, b",")
    return spans


def _after(text: bytes, at: int, mark: bytes) -> int:
    """Index of the first byte behind spaces, `mark` and spaces; -1 without a mark."""
    while text[at : at + 1] in _SPACE and at < len(text):
        at += 1
    if not text.startswith(mark, at):
        return -1
    at += 1
    while at < len(text) and text[at] in _SPACE:
        at += 1
    return at
