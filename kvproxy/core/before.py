"""Members of a body that stand before its growing list, as a conversation keeps them.

A later turn has the same bytes up to where it resumes: small members are kept as they were, the
others by their places, for tools are as large as a conversation.
"""

from functools import lru_cache

from msgspec import Struct

from kvproxy.core.dialects.base import Members
from kvproxy.core.pieces import Body
from kvproxy.core.spans import Span

Place = tuple[int, int]
_SMALL_BYTES = 64


class Before(Struct, frozen=True):
    small: dict[str, Span]
    large: dict[str, Place]

    def in_body(self, body: Body) -> dict[str, Span]:
        """All of them, in one that begins alike."""
        if not self.large:
            return self.small.copy()
        large = {name: span_at(body, place) for name, place in self.large.items()}
        return self.small | large


NONE = Before({}, {})


def before(members: Members, start: int, skip: Place) -> Before:
    """Of the list that begins at `start`. What lies in `skip` may change."""
    small, large = [], []
    for name, span in members.items():
        if span.start >= start:
            continue
        if span.end - span.start <= _SMALL_BYTES and not span.start < skip[1]:
            small.append((name, span))
        else:
            large.append((name, (span.start, span.end)))
    return _one(tuple(small), tuple(large))


@lru_cache(256)
def _one(small: tuple[tuple[str, Span], ...], large: tuple[tuple[str, Place], ...]) -> Before:
    """Bodies that begin alike share one: it is most of a point."""
    return Before(dict(small), dict(large))


def span_at(body: Body, place: Place) -> Span:
    return Span(body[place[0] : place[1]], *place)
