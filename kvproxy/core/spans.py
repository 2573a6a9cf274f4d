"""Where the values of a JSON text lie, without building them.

msgspec skips a value it decodes as `Raw` at memory speed and hands back its exact bytes; adding up
their lengths and the separators between them gives byte offsets, so that a value can be replaced in
the client's own bytes. A text whose layout does not add up (escaped or repeated keys) has no spans:
None is returned and the caller leaves such a body alone.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from itertools import accumulate
from operator import add, sub
from typing import Any, Protocol

import msgspec

from kvproxy.core.pieces import Body

_OBJECT: msgspec.json.Decoder[dict[str, msgspec.Raw]] = msgspec.json.Decoder(dict[str, msgspec.Raw])
_ARRAY: msgspec.json.Decoder[list[msgspec.Raw]] = msgspec.json.Decoder(list[msgspec.Raw])

# Where one of these and the spaces around it end.
_OPEN, _COLON, _COMMA, _CLOSE, _LIST = (
    re.compile(rb"[ \t\n\r]*%b[ \t\n\r]*" % mark).match
    for mark in (rb"\{", b":", b",", rb"\}", rb"\[")
)
_END = re.compile(rb"[ \t\n\r]*\]").match


class Span(msgspec.Struct, frozen=True, gc=False):
    """A value: its bytes, and [start, end) in the text that was scanned plus `base`."""

    raw: bytes
    start: int
    end: int


class Located(Protocol):
    """A value that knows its place, as a Span does, or finds it out when asked."""

    @property
    def raw(self) -> bytes: ...

    @property
    def start(self) -> int: ...

    @property
    def end(self) -> int: ...


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
    raws = list(map(bytes, members.values()))
    return _written_evenly(text, members, raws, base) or _written_anyhow(text, members, raws, base)


def _written_evenly(
    text: bytes, names: Iterable[str], raws: Sequence[bytes], base: int
) -> dict[str, Span] | None:
    """For what nearly all clients write: one space behind each mark, or none anywhere.

    If names and values, joined, are the text, they lie where their lengths add up to.
    """
    marked = text.find(b'":')
    colon, comma = (b'": ', b', "') if text[marked + 2 : marked + 3] == b" " else (b'":', b',"')
    parts = list(map(colon.join, zip(map(str.encode, names), raws, strict=True)))
    if b'{"%b}' % comma.join(parts) != text:
        return None
    begun = _begins(parts, base + 2, len(comma))
    ends = list(map(add, begun, map(len, parts)))
    starts = map(sub, ends, map(len, raws))
    return dict(zip(names, map(Span, raws, starts, ends), strict=True))


def _written_anyhow(
    text: bytes, names: Iterable[str], raws: Sequence[bytes], base: int
) -> dict[str, Span] | None:
    opened = _OPEN(text)
    assert opened is not None
    at = end = opened.end()
    spans: dict[str, Span] = {}
    for key, raw in zip(names, raws, strict=True):
        name = b'"%b"' % key.encode()
        colon = _COLON(text, at + len(name)) if text.startswith(name, at) else None
        if colon is None or not text.startswith(raw, colon.end()):
            return None
        start, end = colon.end(), colon.end() + len(raw)
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
    raws = list(map(bytes, elements))
    # As nearly all clients write lists too.
    between = b", " if raws and text[len(raws[0]) + 2 : len(raws[0]) + 3] == b" " else b","
    if b"[%b]" % between.join(raws) == text:
        return _side_by_side(raws, base + 1, len(between))
    opened = _LIST(text)
    assert opened is not None
    spans = _elements(text, raws, opened.end(), base)
    assert spans is not None, "an array has no keys to escape or repeat"
    return spans


def _elements(text: bytes, raws: Sequence[bytes], at: int, base: int = 0) -> list[Span] | None:
    """Where `raws` lie as the elements of a list, the first one at `at`; None if it is another
    list."""
    comma = _COMMA(text, at + len(raws[0])) if len(raws) > 1 else None
    between = comma[0] if comma is not None else b""
    if text.startswith(between.join(raws), at):
        return _side_by_side(raws, base + at, len(between))
    spans = []
    for raw in raws:
        if not text.startswith(raw, at):
            return None
        end = at + len(raw)
        spans.append(Span(raw, base + at, base + end))
        comma = _COMMA(text, end)
        at = comma.end() if comma is not None else len(text)
    return spans


def _side_by_side(raws: Sequence[bytes], at: int, between: int) -> list[Span]:
    starts = list(_begins(raws, at, between))
    return list(map(Span, raws, starts, map(add, starts, map(len, raws))))


def _begins(parts: Sequence[bytes], at: int, between: int) -> Iterator[int]:
    """Where each of `parts` begins, and one more would, with so many bytes between them."""
    return accumulate(map(between.__add__, map(len, parts)), initial=at)


def list_begins(text: bytes, name: str) -> int | None:
    """Where the list may begin that is the member `name` of an object."""
    at = text.find(b'"%b"' % name.encode())
    colon = _COLON(text, at + len(name.encode()) + 2) if at >= 0 else None
    return colon.end() if colon is not None and text.startswith(b"[", colon.end()) else None


def body_spans(
    text: bytes, growing: str, base: int = 0
) -> tuple[dict[str, Span], list[Span]] | None:
    """As object_spans(text) and array_spans of its member `growing`, in one pass over that member,
    which is nearly all of a body. None where that does not go; nothing is said about why.

    The list is found by its name, and what remains with a 0 in its place is read as any object: if
    the 0 is its member `growing`, the name was the right one.
    """
    start = list_begins(text, growing)
    return _body_spans(text, growing, base, start) if start is not None else None


def _body_spans(
    text: bytes, growing: str, base: int, start: int, *, first: bool = False
) -> tuple[dict[str, Span], list[Span]] | None:
    """The list begins at `start`, and if it is the `first` member nothing stands before it."""
    opened = _LIST(text, start)
    if opened is None:
        return None
    try:
        raws = list(map(bytes, _decoder(growing).decode(text).list))
        elements = _elements(text, raws, opened.end(), base)
        if elements is None:
            return None
        ended = _END(text, elements[-1].end - base if elements else opened.end())
        if ended is None:
            return None
        end = ended.end()
        listed = Span(text[start:end], base + start, base + end)
        if first and text[end:] == b"}":
            return {growing: listed}, elements
        members = object_spans(text[:start] + b"0" + text[end:], base)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    stub = members.get(growing) if members is not None else None
    if members is None or stub is None or stub.start != base + start or stub.raw != b"0":
        return None
    longer = end - start - 1
    for key, span in members.items():
        if span.start > stub.start:
            members[key] = Span(span.raw, span.start + longer, span.end + longer)
    members[growing] = listed
    return members, elements


def rest_spans(body: Body, at: int, growing: str) -> tuple[dict[str, Span], list[Span]] | None:
    """As body_spans() of a body in whose list an element ends `at`: a 0, which is the first of the
    elements, stands for all before that."""
    # Written with spaces where the body has them: what is written evenly is found fastest.
    rest = body[at:]
    begun = b'{"%b": [0' if rest.startswith(b", ") else b'{"%b":[0'
    opening = begun % growing.encode()
    size = len(opening)
    return _body_spans(opening + rest, growing, at - size, size - len(b"[0"), first=True)


@cache
def _decoder(growing: str) -> msgspec.json.Decoder[Any]:
    """Of a body's list alone; other members are passed over."""
    fields = [("list", list[msgspec.Raw])]
    shape = msgspec.defstruct("Body", fields, rename={"list": growing})
    return msgspec.json.Decoder(shape)
