"""Cache marks of every dialect: counted, taken for hints, and taken out without other changes."""

import copy
import json
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvproxy.core.canonical import Canonicaliser, Order
from kvproxy.core.dialects.base import Dialect
from kvproxy.core.dialects.chat import Chat
from kvproxy.core.dialects.messages import Messages
from kvproxy.core.dialects.responses import Responses
from kvproxy.core.marks import Marks, mark, member_range, of_members, retention_name, without_mark
from kvproxy.core.representatives import Representatives
from kvproxy.core.spans import object_spans
from kvproxy.core.turn import Turn, TurnReader, apply
from kvproxy.core.volatile import BILLING_LINE, Volatile
from tests.support.json_layouts import Written, written_json

SHORT, LONG = {"type": "ephemeral"}, {"type": "ephemeral", "ttl": "1h"}
# A property of that name is the client's own and no mark.
SCHEMA = {
    "type": "object",
    "properties": {"cache_control": {"type": "string"}, "path": {"type": "string"}},
}
CALL = {"name": "f", "arguments": '{"cache_control": 1, "path": 2}'}
TEXTS = ["x-anthropic-billing-header: cch=1;\nYou are helpful.", "Be brief."]
BODIES: dict[Dialect, dict[str, Any]] = {
    Messages(): {
        "model": "m",
        "system": [{"type": "text", "text": text} for text in TEXTS],
        "tools": [{"name": name, "input_schema": SCHEMA} for name in "ab"],
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": "Say cache_control."}]},
            {
                "role": "assistant",
                "content": [
                    {"type": "text", "text": '"cache_control"'},
                    {"type": "tool_use", "id": "t", "name": "a", "input": {"cache_control": 1}},
                ],
            },
            {
                "role": "user",
                "content": [{"type": "tool_result", "tool_use_id": "t", "content": "x"}],
            },
        ],
    },
    Chat(): {
        "model": "m",
        "tools": [
            {"type": "function", "function": {"name": name, "parameters": SCHEMA}} for name in "ab"
        ],
        "messages": [
            {"role": "system", "content": [{"type": "text", "text": text} for text in TEXTS]},
            {"role": "user", "content": [{"type": "text", "text": "hello"}]},
            {"role": "assistant", "tool_calls": [{"id": "c", "function": CALL}]},
            {"role": "tool", "tool_call_id": "c", "content": [{"type": "text", "text": "x"}]},
        ],
    },
    Responses(): {
        "model": "m",
        "instructions": "You are helpful.",
        "input": [{"role": "user", "content": [{"type": "input_text", "text": "hello"}]}],
    },
}
EVERYWHERE = pytest.mark.parametrize("dialect", BODIES, ids=lambda dialect: dialect.name)


def markable(body: dict[str, Any]) -> list[dict[str, Any]]:
    """The objects of a body in which clients put marks."""
    found = [*body.get("tools", [])]
    found += [tool["function"] for tool in body.get("tools", []) if "function" in tool]
    found += body["system"] if isinstance(body.get("system"), list) else []
    for message in body.get("messages", body.get("input", [])):
        if "content" in message:
            found += message["content"]
    return found


def read(dialect: Dialect, raw: bytes, **given: Any) -> Turn:
    canon = Canonicaliser(
        Order.FIRST_SEEN, Representatives(2**20), Volatile([BILLING_LINE]), **given
    )
    return TurnReader(canon, 64, 100).read(dialect, "", raw)


@EVERYWHERE
def test_marks_are_counted_wherever_they_are(dialect: Dialect) -> None:
    for index in range(len(markable(BODIES[dialect]))):
        body = copy.deepcopy(BODIES[dialect])
        markable(body)[0]["cache_control"] = SHORT
        markable(body)[index]["cache_control"] = LONG
        expected = Marks(1 + (index > 0), 3600.0)
        assert read(dialect, json.dumps(body).encode()).marks == expected
    plain = read(dialect, json.dumps(BODIES[dialect]).encode())
    assert plain.marks == Marks()


@EVERYWHERE
@given(seed=st.integers(0, 2**32))
def test_stripping_takes_out_the_marks_and_nothing_else(dialect: Dialect, seed: int) -> None:
    random, clean = Random(seed), copy.deepcopy(BODIES[dialect])
    if "system" in clean and random.random() < 0.3:
        clean["system"] = "".join(TEXTS)
    body = copy.deepcopy(clean)
    for place in markable(body):
        if random.random() < 0.5:
            rest = list(place.items())
            control = random.choice([SHORT, LONG])
            rest.insert(random.randint(0, len(rest)), ("cache_control", control))
            place.clear()
            place.update(rest)
    separators = random.choice([(",", ":"), (", ", ": "), (" ,\n", " :\t")])
    raw = json.dumps(body, indent=random.choice([None, 1]), separators=separators).encode()
    forwarded = apply(raw, read(dialect, raw, strips_marks=True).splices)
    unmarked = json.dumps(clean).encode()
    assert json.loads(forwarded) == json.loads(apply(unmarked, read(dialect, unmarked).splices))


def test_a_mark_that_moves_is_stripped_in_lists_that_are_reordered_too() -> None:
    canon = Canonicaliser(Order.FIRST_SEEN, Representatives(2**20), strips_marks=True)
    reader, chat = TurnReader(canon, 64, 100), Chat()
    body = body_of("chat")
    first = json.dumps(body).encode()
    assert reader.read(chat, "", first).splices == []
    body["tools"].reverse()
    body["tools"][0]["cache_control"] = body["tools"][1]["function"]["cache_control"] = LONG
    raw = json.dumps(body).encode()
    turn = reader.read(chat, "", raw)
    assert [splice.kind for splice in turn.splices] == ["tool_order"]
    assert json.loads(apply(raw, turn.splices)) == json.loads(first)
    assert turn.marks == Marks(2, 3600.0)


def body_of(name: str) -> dict[str, Any]:
    return copy.deepcopy(next(body for dialect, body in BODIES.items() if dialect.name == name))


@given(st.integers(0, 3), st.integers(0, 3))
def test_marks_are_the_same_when_reading_resumes(first: int, second: int) -> None:
    messages = Messages()
    body = body_of("messages")
    body["messages"] *= 6
    body = copy.deepcopy(body)
    objects = markable(body)
    canon = Canonicaliser(Order.FIRST_SEEN, Representatives(2**20))
    reader = TurnReader(canon, 64, 100)
    for turn in range(4):
        objects[-1 - first]["cache_control"] = SHORT
        if turn == second:
            objects[0]["cache_control"] = LONG
        raw = json.dumps(body).encode()
        whole = TurnReader(canon, 64, 0).read(messages, "", raw)
        assert reader.read(messages, "", raw).marks == whole.marks
        body["messages"].append(copy.deepcopy(body["messages"][0]))
        objects = markable(body)


def test_marks_of_whole_bodies() -> None:
    def found(**members: Any) -> Marks:
        spans = object_spans(json.dumps(members).encode())
        assert spans is not None
        return of_members(spans)

    assert found(cache_control=SHORT) == Marks(1, 300.0)
    assert found(prompt_cache_retention="24h") == Marks(1, 86_400.0)
    assert found(prompt_cache_retention="in_memory") == Marks()
    assert found(prompt_cache_options={"mode": "x", "ttl": "1h"}) == Marks(1, 3600.0)
    assert found(cache_control=LONG, prompt_cache_options=[1], model="m") == Marks(1, 3600.0)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (SHORT, Marks(1, 300.0)),
        (LONG, Marks(1, 3600.0)),
        ({"ttl": 3}, Marks(1, 300.0)),
        ({"ttl": "9 weeks"}, Marks(1, 300.0)),
        ("ephemeral", Marks()),
        (None, Marks()),
    ],
)
def test_what_a_mark_asks_for(value: object, expected: Marks) -> None:
    assert mark(value) == expected


def test_names_of_times() -> None:
    assert [retention_name(each) for each in (0.0, 300.0, 3600.0, 86_400.0)] == [
        *("", "5m", "1h", "24h")
    ]


@given(st.dictionaries(st.text(max_size=3), st.integers() | st.text(max_size=3)), st.data())
def test_a_member_is_cut_out_with_its_comma(rest: dict[str, Any], data: st.DataObject) -> None:
    rest.pop("cache_control", None)
    items = list(rest.items())
    items.insert(data.draw(st.integers(0, len(items))), ("cache_control", {"a": [1, "}"]}))
    written: Written = data.draw(written_json(st.just(dict(items)), plain_keys=True))
    if member_range(written.text, "cache_control") is None:
        assert object_spans(written.text) is None
        return
    assert json.loads(without_mark(written.text)) == rest
    assert member_range(json.dumps(rest).encode(), "cache_control") is None
