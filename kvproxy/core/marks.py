"""What clients mark to be cached, and for how long: `cache_control` and its relatives.

Engines keep what they keep; a mark is read as a hint of when its client will be back. Hosted APIs
know 5 minutes, which is what a mark without a time means, and an hour; OpenAI's clients may ask for
24 hours for the whole prompt.
"""

from collections.abc import Mapping
from typing import NamedTuple

import msgspec

from kvproxy.core.spans import Span, object_spans

NAME = "cache_control"
_DEFAULT_S = 300.0
_SECONDS = {"5m": 300.0, "1h": 3600.0, "24h": 86_400.0}
_ANY = msgspec.json.Decoder()


class Marks(NamedTuple):
    """How many there are, and the longest time that one of them asks for; 0 without any."""

    number: int = 0
    retention_s: float = 0.0

    def and_(self, other: "Marks") -> "Marks":
        if not other.number:
            return self
        longest = max(self.retention_s, other.retention_s)
        return Marks(self.number + other.number, longest)


NO_MARKS = Marks()


def retention_name(retention_s: float) -> str:
    """For people: "5m", "1h", "24h"; "" for none."""
    return next((name for name, each in _SECONDS.items() if each == retention_s), "")


def mark(value: object) -> Marks:
    """Of the value of a `cache_control`; what is no object marks nothing."""
    if not isinstance(value, dict):
        return NO_MARKS
    ttl = value.get("ttl")
    return Marks(1, _SECONDS.get(ttl, _DEFAULT_S) if isinstance(ttl, str) else _DEFAULT_S)


def of_members(members: Mapping[str, Span]) -> Marks:
    """Marks of a whole body, which every dialect may have."""
    found = NO_MARKS
    if NAME in members:
        found = mark(_decoded(members[NAME]))
    if "prompt_cache_retention" in members:
        asked = _decoded(members["prompt_cache_retention"])
        if isinstance(asked, str) and asked in _SECONDS:
            found = found.and_(Marks(1, _SECONDS[asked]))
    if "prompt_cache_options" in members:
        options = _decoded(members["prompt_cache_options"])
        if isinstance(options, dict) and "ttl" in options:
            found = found.and_(mark(options))
    return found


def member_range(raw: bytes, name: str) -> tuple[int, int] | None:
    """[start, end) of a member of the object `raw`, with the comma that it makes superfluous; None
    if it has no such member or is laid out oddly."""
    members = object_spans(raw)
    if members is None or name not in members:
        return None
    names = list(members)
    at = names.index(name)
    end = members[name].end
    if at:
        # From behind the value before it: the comma between them goes with it.
        return members[names[at - 1]].end, end
    start = raw.index(b'"')
    if len(names) == 1:
        return start, end
    return start, raw.index(b'"', end)


def without_mark(raw: bytes) -> bytes:
    """An object without its `cache_control`."""
    found = member_range(raw, NAME) if b'"cache_control"' in raw else None
    return raw[: found[0]] + raw[found[1] :] if found is not None else raw


def _decoded(span: Span) -> object:
    try:
        return _ANY.decode(span.raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
