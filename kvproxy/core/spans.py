"""Where the values of a JSON text lie, without building them.

msgspec skips a value it decodes as `Raw` at memory speed and hands back its exact bytes; adding up
their lengths and the separators between them gives byte offsets, so that a value can be replaced in
the client's own bytes. A text whose layout does not add up (escaped or repeated keys) has no spans:
None is returned and the caller leaves such a body alone.
"""

import re
from collections.abc import Sequence
from functools import cache
from typing import Any, NamedTuple

import msgspec

_OBJECT: msgspec.json.Decoder[dict[str, msgspec.Raw]] = msgspec.json.Decoder(dict[str, msgspec.Raw])
_ARRAY: msgspec.json.Decoder[list[msgspec.Raw]] = msgspec.json.Decoder(list[msgspec.Raw])

# Where one of these and the spaces around it end.
_OPEN, _COLON, _COMMA, _CLOSE, _LIST = (
    re.compile(rb"[ \t\n\r]*%b[ \t\n\r]*" % mark).match
    for mark in (rb"\{", b":", b",", rb"\}", rb"\[")
)
_END = re.compile(rb"[ \t\n\r]*\]").match


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
    opened = _OPEN(text)
    assert opened is not None
    at = end = opened.end()
    for key, value in members.items():
        name = b'"%b"' % key.encode()
        colon = _COLON(text, at + len(name)) if text.startswith(name, at) else None
        if colon is None:
            return None
        raw, start = bytes(value), colon.end()
        if not text.startswith(raw, start):
            return None
        end = start + len(raw)
        spans[key] = Span(raw, base + start, base + end)
        comma = _COMMA(text, end)
        at = comma.end() if comma is not None else len(text)
    # A repeated key collapses in the mapping, so that text would be left over before the brace.
    closed = _CLOSE(text, end)
    return spans if closed is not None and closed.end() == len(text) else None


def array_spans(text: bytes, base: int = 0) -> list[Span] | None:
    """Elements of a JSON array in order; None if `text` is not an array. Raises as object_spans."""
    try:
        elements = _ARRAY.decode(text)
    except msgspec.ValidationError:
        return None
    spans: list[Span] = []
    opened = _LIST(text)
    assert opened is not None
    at = opened.end()
    for value in elements:
        raw = bytes(value)
        assert text.startswith(raw, at), "an array has no keys to escape or repeat"
        end = at + len(raw)
        spans.append(Span(raw, base + at, base + end))
        comma = _COMMA(text, end)
        if comma is not None:
            at = comma.end()
    return spans


def _walked(text: bytes, values: Sequence[msgspec.Raw], at: int) -> tuple[list[Span], int] | None:
    """Where `values` lie as the elements of the list that begins at `at`, and where it ends."""
    opened = _LIST(text, at)
    if opened is None:
        return None
    spans: list[Span] = []
    at, separator = opened.end(), b","
    for value in values:
        raw = bytes(value)
        if not text.startswith(raw, at):
            # The guess at the separator was a bad one.
            comma = _COMMA(text, spans[-1].end) if spans else None
            if comma is None or not text.startswith(raw, comma.end()):
                return None
            at, separator = comma.end(), comma[0]
        end = at + len(raw)
        spans.append(Span(raw, at, end))
        at = end + len(separator) if text.startswith(separator, end) else end
    ended = _END(text, at)
    return (spans, ended.end()) if ended is not None else None


def body_spans(text: bytes, growing: str) -> tuple[dict[str, Span], list[Span]] | None:
    """As object_spans(text) and array_spans of its member `growing`, in one pass over that member,
    which is nearly all of a body. None where that does not go; nothing is said about why.

    The list is found by its name, and what remains with a 0 in its place is read as any object: if
    the 0 is its member `growing`, the name was the right one.
    """
    name = growing.encode()
    at = text.find(b'"%b"' % name)
    colon = _COLON(text, at + len(name) + 2) if at >= 0 else None
    if colon is None:
        return None
    start = colon.end()
    try:
        walked = _walked(text, _decoder(growing).decode(text).list, start)
        if walked is None:
            return None
        elements, end = walked
        members = object_spans(text[:start] + b"0" + text[end:])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    stub = members.get(growing) if members is not None else None
    if members is None or stub is None or stub.start != start or stub.raw != b"0":
        return None
    longer = end - start - 1
    for key, span in members.items():
        if span.start > start:
            members[key] = Span(span.raw, span.start + longer, span.end + longer)
    members[growing] = Span(text[start:end], start, end)
    return members, elements


@cache
def _decoder(growing: str) -> msgspec.json.Decoder[Any]:
    """Of a body's list alone; other members are passed over."""
    fields = [("list", list[msgspec.Raw])]
    shape = msgspec.defstruct("Body", fields, rename={"list": growing})
    return msgspec.json.Decoder(shape)
