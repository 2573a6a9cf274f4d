"""A long body the first time it is read: in parts, so that its list is scanned once and not twice.

Where an element begins is guessed from how the first one does, close to the list's start and to its
end. The list is decoded as a whole; if all parts are JSON where they are used, then the guesses
were right, since a text can be read as JSON in one way only.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import count, repeat
from typing import Any, TypeVar

import msgspec
from msgspec import Struct

from kvproxy.core.pieces import Body, between
from kvproxy.core.spans import Located, Span, array_spans, list_begins, object_spans, rest_spans

_SPACE = b" \t\r\n"
T = TypeVar("T")


class Stretch:
    """Elements of a list that follow each other: [start, end) of `body`. Where each of them lies is
    found out once somebody asks."""

    def __init__(self, body: Body, start: int, end: int) -> None:
        self._body = body
        self._spans: list[Span] | None = None
        self._values: list[Any] | None = None
        self.start = start
        self.end = end

    def __iter__(self) -> Iterator[Span]:
        return iter(self.spans)

    @property
    def spans(self) -> list[Span]:
        if self._spans is None:
            self._spans = array_spans(self.text, self.start - 1)
            assert self._spans is not None, "it was decoded as a list"
        return self._spans

    def keep(self, values: list[Any]) -> None:
        """What they are, decoded, for whoever takes them."""
        self._values = values

    def take(self, decoder: "msgspec.json.Decoder[list[T]]") -> list[T]:
        """The decoded ones, once: they are as large as the body. Raises msgspec.DecodeError."""
        values, self._values = self._values, None
        return values if values is not None else decoder.decode(self.text)

    @property
    def text(self) -> bytes:
        """They alone as a list."""
        return b"".join((b"[", *between(self._body, self.start, self.end), b"]"))


class _Later(Struct, frozen=True, gc=False):
    """One element of a stretch."""

    stretch: Stretch
    index: int

    @property
    def raw(self) -> bytes:
        return self.stretch.spans[self.index].raw

    @property
    def start(self) -> int:
        return self.stretch.spans[self.index].start

    @property
    def end(self) -> int:
        return self.stretch.spans[self.index].end


Elements = Sequence[Span] | Stretch


def decoded(
    elements: Elements, one: "msgspec.json.Decoder[T]", many: "msgspec.json.Decoder[list[T]]"
) -> Iterable[tuple[T, Located]]:
    """Each element with its place. Raises msgspec.DecodeError."""
    if isinstance(elements, Stretch):
        later = map(_Later, repeat(elements), count())
        return zip(elements.take(many), later, strict=False)
    return zip(map(one.decode, [each.raw for each in elements]), elements, strict=True)


class Parted(Struct, frozen=True):
    """The list as its first elements, a stretch and the last ones, and where it begins; `members`
    are the others: it is nearly all of the body, and not copied."""

    members: dict[str, Span]
    start: int
    end: int
    opening: list[Span]
    middle: Stretch
    last: list[Span]

    def check(self, body: bytes, decoder: "msgspec.json.Decoder[list[Any]]") -> None:
        """Decodes the list as a whole, without another copy of it, and keeps the middle. Raises
        msgspec.DecodeError: the guesses were wrong, or it is no JSON.

        If it is JSON from its bracket to the one that the end was read up to, then so many elements
        as were read of its end stand there: the first quotation mark behind where they begin is the
        one of their first key, which no text can end with, and they close one list and no more.
        """
        values = decoder.decode(memoryview(body)[self.start : self.end])
        self.middle.keep(values[len(self.opening) : len(values) - len(self.last)])


def parted(body: bytes, growing: str, begins: bytes, last_elements: int) -> Parted | None:
    """`begins` is what an element begins with, and nothing inside it. None where that does not go.

    The middle is not looked at: check() finds out whether it is JSON.
    """
    start = list_begins(body, growing)
    if start is None or not begins:
        return None
    third = body.find(begins, body.find(begins, body.find(begins, start) + 1) + 1)
    last = len(body)
    for _ in range(last_elements):
        last = body.rfind(begins, third + 1, last) if third > start else -1
        if last < 0:
            return None
    opened, ended = _before_comma(body, third), _before_comma(body, last)
    if opened < 0 or ended < 0:
        return None
    try:
        before = object_spans(body[:start] + b"0}")
        opening = array_spans(body[start:opened] + b"]", start)
        behind = rest_spans(body, ended, growing)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    if not before or not opening or not behind:
        return None
    others, elements = behind
    if before.keys() & others.keys() != {growing} or before[growing].start != start:
        return None
    if len(elements) != 1 + last_elements:
        return None
    del before[growing]
    end, middle = others.pop(growing).end, Stretch(body, third, ended)
    return Parted(before | others, start, end, opening, middle, elements[1:])


def going_on(
    body: Body, at: int, decoder: "msgspec.json.Decoder[list[T]]"
) -> tuple[Stretch, int] | None:
    """What stands behind an element of a list that ends `at`, and how many those are, where the
    list and with it the body ends behind them, as it does in most. None anywhere else."""
    rest = body[at:]
    if not rest.startswith(b",") or not rest.endswith(b"}]}"):
        return None
    try:
        # A comma with nothing behind it is no JSON, though a list of nothing is.
        values = decoder.decode(b"[" + rest[1:-1])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    stretch = Stretch(body, at + 1, at + len(rest) - 2)
    stretch.keep(values)
    return stretch, len(values)


def _before_comma(body: bytes, at: int) -> int:
    """Where the value ends before the comma before `at`, -1 if there is no such."""
    at = _before_space(body, at) - 1
    return _before_space(body, at) if at > 0 and body[at] == ord(",") else -1


def _before_space(body: bytes, at: int) -> int:
    while at > 0 and body[at - 1] in _SPACE:
        at -= 1
    return at
