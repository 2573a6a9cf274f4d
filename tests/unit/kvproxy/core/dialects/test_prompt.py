import json
from typing import cast

import pytest

from kvproxy.core.canonical import Canonicaliser, Edits, Order, Whose
from kvproxy.core.dialects import prompt
from kvproxy.core.dialects.prompt import (
    Among,
    Call,
    arguments,
    cleaned,
    frame,
    led,
    media,
    message,
    place,
)
from kvproxy.core.representatives import Representatives
from kvproxy.core.segments import plain
from kvproxy.core.spans import Span
from kvproxy.core.unprinted import Trait, Unprinted
from kvproxy.core.volatile import Where


def edits(kept: Representatives | None = None) -> Edits:
    kept = Representatives(2**20) if kept is None else kept
    return Canonicaliser(Order.FIRST_SEEN, kept).edits(Whose(""))


def span(raw: bytes, start: int = 0) -> Span:
    return Span(raw, start, start + len(raw))


def test_messages_differ_in_all_that_a_template_prints() -> None:
    made = [
        message("user", [b"text"]),
        message("user", [b"te", b"xt"]),
        message("tool", [b"text"]),
        message("user", [b"text"], name="ann"),
        message("tool", [b"text"], tool_call_id="c"),
        message("user", [b"text"], reasoning="why"),
        message("user", [b"text"], calls=[Call("c", "f", b"{}")]),
        message("user", [b"text"], calls=[Call("d", "f", b"{}")]),
        message("user", [b"text"], calls=[Call("c", "f", b"{}"), Call("c", "f", b"{}")]),
        message("user", [b"textf{}"]),
    ]
    assert len({segment.data for segment in made}) == len(made)


def test_no_content_is_empty_content() -> None:
    assert message("user", []) == message("user", [b""])


def test_texts_are_measured() -> None:
    made = message("user", [b"abc"], reasoning="de", calls=[Call("c", "f", b"{}")])
    assert made.text_bytes == 11
    assert made.data[made.text_start :].startswith(b"abc\0de\0f\0{}")


@pytest.mark.parametrize("raw", [b"null", b"[]", b'""', b"{}"])
def test_nothing_is_no_segment(raw: bytes) -> None:
    assert frame("documents", span(raw)) == []


def test_a_frame_is_its_name_and_value() -> None:
    [one] = frame("documents", span(b'{"a":1,"b":2}'))
    assert frame("documents", span(b'{ "b":2,"a":1 }')) == [one]
    assert frame("other", span(b'{"a":1,"b":2}')) != [one]


def test_media_are_told_from_text_and_their_marks_ignored() -> None:
    assert media({"u": 1, "cache_control": {}}) == media({"u": 1})
    assert media({"u": 1}) != b'{"u":1}'


@pytest.mark.parametrize("given", [b"", b"not json", b"[1,2]", b"7", b'{"a":1} x', b'{"a":1'])
def test_arguments_that_are_no_object_stay(given: bytes) -> None:
    assert arguments(given, edits()) == (given, given, "")


def test_arguments_get_their_first_spelling() -> None:
    kept = Representatives(2**20)
    canonical, _, _ = arguments(b'{"b":1,"a":2}', edits(kept))
    assert arguments(b'{"a":2,"b":1}', edits(kept))[:2] == (canonical, b'{"b":1,"a":2}')
    # What differs in white space alone is left as it is.
    assert arguments(b'{ "b":1, "a":2 }', edits(kept))[:2] == (canonical, b'{ "b":1, "a":2 }')


def test_places_lie_where_their_bytes_do() -> None:
    body = b'  {"a": [1, {"b" : {"c":[true]}}]}'
    found = place(span(body[2:], 2), ("a", 1, "b", "c"))
    assert found is not None
    assert body[found.start : found.end] == found.raw == b"[true]"


@pytest.mark.parametrize("path", [("x",), ("a", "x"), (0,), ("a", 1, "b", 0)])
def test_no_place_where_the_layout_is_another(path: tuple[str | int, ...]) -> None:
    value = {"a": [1, {"b": {}}]}
    assert place(span(json.dumps(value).encode()), path) is None


def without(*traits: str) -> Edits:
    """Of an engine whose template does not print these."""
    unprinted = Unprinted(asking=True)
    for trait in traits:
        unprinted.prints(trait)
        unprinted.told("r", trait, printed=False)
    unprinted.settle(["r"])
    canon = Canonicaliser(Order.FIRST_SEEN, Representatives(2**20), unprinted=unprinted)
    return canon.edits(Whose("", ""))


def test_what_no_template_prints_is_no_part_of_a_message() -> None:
    edits = without(Trait.NAMES, Trait.IDS, Trait.REASONING)
    assert message("user", [b"a"], name="kim", edits=edits) == message("user", [b"a"])
    result = message("tool", [b"a"], tool_call_id="call_1", edits=edits)
    assert result == message("tool", [b"a"])
    one, other = (
        message("assistant", [b"a"], reasoning=why, calls=[Call(name, "f", b"{}")], edits=edits)
        for why, name in (("so", "call_1"), (None, "call_2"))
    )
    assert one == other
    assert one != message("assistant", [b"a"], calls=[Call(None, "g", b"{}")], edits=edits)


def test_what_one_prints_is() -> None:
    edits = without()
    assert message("user", [b"a"], name="kim", edits=edits) != message("user", [b"a"])
    assert message("tool", [b"a"], tool_call_id="c", edits=edits) != message("tool", [b"a"])
    assert message("assistant", [b"a"], reasoning="so", edits=edits) != message("assistant", [b"a"])


def test_template_arguments_count_unless_they_change_nothing() -> None:
    thinking, effort = span(b'{"enable_thinking": false}'), span(b'"high"')
    edits = without("chat_template_kwargs\0" + '{"enable_thinking":false}')
    assert frame("chat_template_kwargs", thinking, edits) == []
    assert len(frame("chat_template_kwargs", span(b'{"enable_thinking": true}'), edits)) == 1
    assert len(frame("reasoning_effort", effort, edits)) == 1
    assert frame("reasoning_effort", effort, without('reasoning_effort\0"high"')) == []


def test_a_developers_text_leads_as_a_system_text_where_that_is_the_same() -> None:
    developer, more = plain("developer", b"Be brief."), plain("user", b"a")
    edits = without(Trait.DEVELOPER)
    assert led([developer, more], edits) == [plain("system", b"Be brief."), more]
    assert led([developer, more], without()) == [developer, more]
    assert led([more, developer], edits) == [more, developer]
    assert led([], edits) == []


def test_what_is_laid_out_oddly_is_taken_apart_once(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[bytes] = []

    def noted(value: Span, path: prompt.Path) -> Span | None:
        taken.append(value.raw)
        return place(value, path)

    monkeypatch.setattr(prompt, "place", noted)
    among = Among(span(b'{"\\u0063ontent":[{"a":1},{"a":2}]}'), ("content",))
    assert [among.place(index, "a") for index in (0, 1, 0)] == [None] * 3
    assert len(taken) == 1


class Shouting:
    """Edits that change every text, or drop it."""

    cleaned = frozenset({Where.SYSTEM})

    def __init__(self, drop: str = "") -> None:
        self.replaced: list[tuple[bytes, bytes]] = []
        self._drop = drop

    def clean(self, _where: Where, text: str) -> tuple[str, str]:
        return ("", "dropped") if text == self._drop else (text.upper(), "louder")

    def replace(self, at: Span, new: bytes, _kind: str) -> None:
        self.replaced.append((at.raw, new))

    def forwarded(self, raw: bytes) -> bytes:
        return raw


@pytest.mark.parametrize(
    ("parts", "drop", "replaced", "texts"),
    [
        (b'[{"text":"a"},{"text":"b"}]', "", [(b'"a"', b'"A"'), (b'"b"', b'"B"')], ["A", "B"]),
        (
            b'[{"text":"a"},{"text":"b"}]',
            "a",
            [(b'[{"text":"a"},{"text":"b"}]', b'[{"text":"B"}]')],
            ["", "B"],
        ),
        # Nobody knows where it would have to be changed, so nothing is lost.
        (b'[{"\\u0074ext":"a"},{"text":"b"}]', "", [], ["a", "b"]),
        (b'[{"\\u0074ext":"a"},{"text":"b"}]', "a", [], ["a", "b"]),
    ],
)
def test_changed_texts_are_changed_where_they_are(
    parts: bytes, drop: str, replaced: list[tuple[bytes, bytes]], texts: list[str]
) -> None:
    shouting, at = Shouting(drop), span(b'{"system":%b}' % parts)
    given = ["a", "b"]
    assert cleaned(Where.SYSTEM, given, at, ("system",), cast(Edits, shouting)) == texts
    assert shouting.replaced == replaced
