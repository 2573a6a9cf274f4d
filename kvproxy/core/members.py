"""What is asked of the members of a body."""

import msgspec

from kvproxy.core.dialects.base import Dialect, Members
from kvproxy.core.spans import Span, array_spans


def present(dialect: Dialect, members: Members, lead: Span | None) -> list[tuple[str, Span]]:
    """Members of the head; `lead` stands for the growing list among them."""
    growing, get = dialect.growing, members.get
    return [
        (name, span)
        for name in dialect.head_members
        if (span := lead if name == growing else get(name)) is not None
    ]


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
