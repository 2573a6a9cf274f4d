"""One prompt in whatever dialect it came: the segments that all of them are turned into.

An engine converts every dialect to chat messages and renders those with one template, so a
conversation has the same chain whether it is sent as chat messages, Anthropic blocks or items.
"""

from collections.abc import Sequence
from functools import cache, partial
from typing import Any

import msgspec

from kvproxy.core.canonical import Edits
from kvproxy.core.marks import NAME
from kvproxy.core.segments import ROLES, Segment, plain, segment, sorted_json
from kvproxy.core.spans import Located, Span, array_spans, object_spans
from kvproxy.core.unprinted import ARGUMENTS, EFFORT, Trait, value_trait
from kvproxy.core.volatile import Where

# Asking an enumeration for a member takes its time.
_NAMES, _REASONING, _IDS = Trait.NAMES, Trait.REASONING, Trait.IDS
_ANY = msgspec.json.Decoder()
NOTHING = (b"null", b"[]", b'""', b"{}")


_WHERE = {
    "system": Where.SYSTEM,
    "developer": Where.SYSTEM,
    "user": Where.USER,
    "assistant": Where.ASSISTANT,
}
Path = tuple[str | int, ...]


class Call(msgspec.Struct, frozen=True, gc=False):
    """A tool call; `arguments` in canonical form."""

    id: str | None
    name: str
    arguments: bytes


def message(
    role: str,
    contents: Sequence[bytes],
    *,
    name: str | None = None,
    tool_call_id: str | None = None,
    reasoning: str | None = None,
    calls: Sequence[Call] = (),
    edits: Edits | None = None,
) -> Segment:
    """Without `edits` it is known to have nothing that templates may leave out."""
    if edits is not None:
        if name is not None and not edits.prints(_NAMES):
            name = None
        if reasoning and not edits.prints(_REASONING):
            reasoning = None
        if (calls or tool_call_id is not None) and not edits.prints(_IDS):
            tool_call_id, calls = None, [Call(None, call.name, call.arguments) for call in calls]
    bare = name is None and tool_call_id is None and not reasoning and not calls
    if bare and len(contents) == 1 and role in ROLES:
        return plain(role, contents[0])
    texts = list(contents) or [b""]
    closing: list[Any] = [len(texts), name, tool_call_id]
    if reasoning:
        closing.append("reasoning")
        texts.append(reasoning.encode())
    if calls:
        closing.append([call.id for call in calls])
        for call in calls:
            texts += (call.name.encode(), call.arguments)
    return segment(role, texts, closing)


def frame(name: str, member: Span, edits: Edits | None = None) -> list[Segment]:
    """A member that changes the prompt without being text of it, such as template arguments."""
    return [] if member.raw in NOTHING else valued(name, _ANY.decode(member.raw), edits)


def valued(name: str, value: object, edits: Edits | None) -> list[Segment]:
    """As frame() of a member with this value."""
    if edits is not None and name in (ARGUMENTS, EFFORT):
        trait = value_trait(name, sorted_json(value))
        if not edits.prints_value(trait):
            return []
    return [segment([name, value], [])]


def led(segments: list[Segment], edits: Edits) -> list[Segment]:
    """Of the message that leads a prompt: a developer's is a system text where templates print them
    as one."""
    head, system = ROLES["developer"], ROLES["system"]
    if not segments or not segments[0].data.startswith(head):
        return segments
    if edits.prints(Trait.DEVELOPER):
        return segments
    first, *rest = segments
    data, start = system + first.data[len(head) :], first.text_start - len(head) + len(system)
    return [Segment(data, start, first.text_bytes), *rest]


def media(part: object) -> bytes:
    """What is no text: an image, or something unknown, by its value without cache marks."""
    if isinstance(part, dict):
        part = {key: value for key, value in part.items() if key != "cache_control"}
    return b"\0" + sorted_json(part)


def arguments(given: bytes, edits: Edits) -> tuple[bytes, bytes, str]:
    """(canonical form, bytes to forward, why they differ) of the JSON object that a tool is called
    with.

    What is no JSON object is kept exactly as it is.
    """
    try:
        parsed = _ANY.decode(given)
        return edits.arguments(given, parsed) if isinstance(parsed, dict) else (given, given, "")
    except (msgspec.DecodeError, RecursionError):
        return given, given, ""


def cleaned(
    where: Where | None, texts: Sequence[str | None], at: Located, path: Path, edits: Edits
) -> list[str | None]:
    """`texts` without what changes by itself, "" for one that vanished.

    They are those of the parts in the list at `path` in `at`, None for parts that are no text; or
    the only one is that of the string there.
    """
    if where not in edits.cleaned:
        return list(texts)
    results = [edits.clean(where, text) if text else (text, "") for text in texts]
    kinds = [kind for _, kind in results if kind]
    span = place(at, path) if kinds else None
    if span is None:
        return list(texts)
    new = [text for text, _ in results]
    if span.raw.startswith(b'"'):
        edits.replace(span, msgspec.json.encode(new[0]), kinds[0])
        return new
    listed = array_spans(span.raw, span.start) or ()
    if len(listed) != len(results):
        return list(texts)
    told = list(zip(listed, results, strict=True))
    inner = [place(part, ("text",)) if kind else None for part, (_, kind) in told]
    if any(kind and at is None for at, (_, kind) in zip(inner, results, strict=True)):
        # One is laid out oddly: none of them is changed.
        return list(texts)
    if all(text for text, kind in results if kind):
        for where_to, (text, kind) in zip(inner, results, strict=True):
            if where_to is not None:
                edits.replace(where_to, msgspec.json.encode(text), kind)
        return new
    parts = []
    for (part, (text, _)), changed in zip(told, inner, strict=True):
        if changed is None:
            parts.append(edits.forwarded(part.raw))
        elif text:
            before, behind = changed.start - part.start, changed.end - part.start
            encoded = msgspec.json.encode(text)
            parts.append(edits.forwarded(part.raw[:before] + encoded + part.raw[behind:]))
    edits.replace(span, b"[" + b",".join(parts) + b"]", kinds[0])
    return new


def parts(
    content: Sequence[dict[str, Any]],
    kinds: Sequence[str],
    where: Where | None,
    at: Located,
    edits: Edits,
) -> list[bytes]:
    """What counts of the parts in a message's content; `kinds` are the types that are text."""
    given = [part.get("text") if part.get("type") in kinds else None for part in content]
    texts = cleaned(
        where, [t if isinstance(t, str) else None for t in given], at, ("content",), edits
    )
    inside = Among(at, ("content",))
    for index, part in enumerate(content):
        if NAME in part:
            edits.mark(part[NAME], partial(inside.place, index))
    return [
        media(part) if text is None else text.encode()
        for part, text, before in zip(content, texts, given, strict=True)
        if text or not before
    ]


@cache
def unchanged_roles(cleaned: frozenset[Where]) -> frozenset[str]:
    """Whose messages of one text are plain segments of it."""
    return frozenset(role for role in ROLES if text_where(role) not in cleaned)


def text_where(role: str) -> Where | None:
    """Which rules for volatile text apply to a message of this role."""
    return _WHERE.get(role)


class Among:
    """place() of many in the list at `path`, which is taken apart once, when first asked."""

    __slots__ = ("_path", "_spans", "_value")

    def __init__(self, value: Located, path: Path) -> None:
        self._value, self._path = value, path
        self._spans: list[Span] | None = None

    def place(self, index: int, *inner: str | int) -> Located | None:
        if self._spans is None:
            found = place(self._value, self._path)
            listed = array_spans(found.raw, found.start) if found is not None else None
            self._spans = listed or []
        return place(self._spans[index], inner) if self._spans else None


def place(value: Located, path: Path) -> Located | None:
    """Where the value at `path` lies inside `value`; None if that is laid out oddly."""
    for step in path:
        if isinstance(step, int):
            elements = array_spans(value.raw, value.start)
            if elements is None:
                return None
            value = elements[step]
        else:
            members = object_spans(value.raw, value.start)
            if members is None or step not in members:
                return None
            value = members[step]
    return value
