"""What is asked of the members of a body."""

from functools import cache

import msgspec

from kvproxy.core.dialects.base import Dialect, Members
from kvproxy.core.spans import Span, array_spans


def present(dialect: Dialect, members: Members, lead: Span | None) -> list[tuple[str, Span]]:
    """Members of the head; `lead` stands for the growing list among them."""
    growing, there = dialect.growing, ranks(dialect.head_members)
    found = there.keys() & members.keys()
    found.discard(growing)
    parts = [(growing, lead)] if lead is not None else []
    if found:
        parts += [(name, members[name]) for name in found]
        parts.sort(key=lambda part: there[part[0]])
    return parts


@cache
def ranks(names: tuple[str, ...]) -> dict[str, int]:
    """Where each stands."""
    return {name: rank for rank, name in enumerate(names)}


def elements_of(growing: Span | None) -> list[Span]:
    """A text in place of the list counts as its only element."""
    if growing is None:
        return []
    elements = array_spans(growing.raw, growing.start)
    return [growing] if elements is None else elements


def continued(dialect: Dialect, members: Members) -> str:
    """The id of the answer whose conversation goes on in this body; "" where it has no such."""
    return text_of(members, dialect.continues) if dialect.continues else ""


def text_of(members: Members, name: str) -> str:
    """A member that is a text; "" for any other."""
    raw = members[name].raw if name in members else b'""'
    return msgspec.json.decode(raw, type=str) if raw.startswith(b'"') else ""
