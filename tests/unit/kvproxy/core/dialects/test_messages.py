"""Which differences between two Anthropic bodies are seen, and that chat bodies mean the same."""

import copy
import json
from collections.abc import Callable
from typing import Any

import pytest

from kvproxy.core.dialects.chat import Chat
from kvproxy.core.dialects.messages import Messages
from kvproxy.core.turn import Turn, apply
from kvproxy.core.types import Chain
from kvproxy.core.volatile import BILLING_LINE
from tests.support.makers import make_reader

Body = dict[str, Any]
MESSAGES = Messages()
SCHEMA = {
    "type": "object",
    "properties": {"path": {"type": "string"}, "limit": {"type": "integer"}},
}
MARK = {"cache_control": {"type": "ephemeral", "ttl": "1h"}}
BASE: Body = {
    "model": "m",
    "max_tokens": 8,
    "system": [{"type": "text", "text": "You are "}, {"type": "text", "text": "helpful."}],
    "messages": [
        {"role": "user", "content": "Fix the bug"},
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "because", "signature": "s1"},
                {"type": "text", "text": "I look."},
                {
                    "type": "tool_use",
                    "id": "t1",
                    "name": "read",
                    "input": {"path": "a", "limit": 2},
                },
            ],
        },
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "t1", "content": "text"},
                {"type": "text", "text": "go on"},
            ],
        },
    ],
    "tools": [
        {"name": name, "description": f"to {name}", "input_schema": SCHEMA}
        for name in ("read", "write")
    ],
}


def read(body: Body, reader: Any = None) -> Turn:
    return (reader or make_reader()).read(MESSAGES, "", json.dumps(body).encode())


def changed(change: Callable[[Body], object]) -> Body:
    body = copy.deepcopy(BASE)
    change(body)
    return body


def block(body: Body, message: int, index: int, **members: Any) -> None:
    body["messages"][message]["content"][index].update(members)


def backwards(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: backwards(value[key]) for key in reversed(value)}
    return [backwards(inner) for inner in value] if isinstance(value, list) else value


def test_the_same_chain_as_in_chat() -> None:
    """An engine makes these chat messages of BASE."""
    call = {"name": "read", "arguments": '{"path": "a", "limit": 2}'}
    chat = {
        "model": "m",
        "messages": [
            {"role": "system", "content": "You are helpful."},
            {"role": "user", "content": "Fix the bug"},
            {
                "role": "assistant",
                "reasoning": "because",
                "content": "I look.",
                "tool_calls": [{"id": "t1", "type": "function", "function": call}],
            },
            {"role": "tool", "tool_call_id": "t1", "content": "text"},
            {"role": "user", "content": "go on"},
        ],
        "tools": [
            {
                "type": "function",
                "function": {"name": n, "description": f"to {n}", "parameters": SCHEMA},
            }
            for n in ("read", "write")
        ],
    }
    chain = make_reader().read(Chat(), "", json.dumps(chat).encode()).chain
    assert read(BASE).chain == chain


UNSEEN: dict[str, Body] = {
    "order of members": {key: BASE[key] for key in reversed(BASE)},
    "system as one text": BASE | {"system": "You are helpful."},
    "cache marks": changed(
        lambda b: [
            b["system"][1].update(MARK),
            b["tools"][1].update(MARK),
            block(b, 2, 1, **MARK),
            block(b, 2, 0, **MARK),
        ]
    ),
    "content as a block": changed(
        lambda b: b["messages"][0].update(content=[{"type": "text", "text": "Fix the bug"}])
    ),
    "signature": changed(lambda b: block(b, 1, 0, signature="s2")),
    "redacted thinking": changed(
        lambda b: b["messages"][1]["content"].insert(0, {"type": "redacted_thinking", "data": "x"})
    ),
    "an empty text block": changed(
        lambda b: b["messages"][1]["content"].insert(0, {"type": "text", "text": ""})
    ),
    "is_error": changed(lambda b: block(b, 2, 0, is_error=True)),
    "result as a block": changed(
        lambda b: block(b, 2, 0, content=[{"type": "text", "text": "text"}])
    ),
    "order of input": changed(lambda b: block(b, 1, 2, input={"limit": 2, "path": "a"})),
    "order of a schema": changed(lambda b: b["tools"][0].update(input_schema=backwards(SCHEMA))),
    "order of tools": changed(lambda b: b["tools"].reverse()),
    "unknown members": BASE | {"metadata": {"user_id": "u"}, "betas": ["x"], "stream": True},
    "adaptive thinking": BASE | {"thinking": {"type": "enabled", "budget_tokens": 1024}},
}
SEEN: dict[str, Body] = {
    "salt": BASE | {"cache_salt": "s"},
    "template arguments": BASE | {"chat_template_kwargs": {"enable_thinking": False}},
    "thinking off": BASE | {"thinking": {"type": "disabled"}},
    "effort": BASE | {"output_config": {"effort": "high"}},
    "no tools": BASE | {"tools": []},
    "system text": BASE | {"system": "You are helpful. "},
    "thinking text": changed(lambda b: block(b, 1, 0, thinking="why")),
    "input": changed(lambda b: block(b, 1, 2, input={"path": "b", "limit": 2})),
    "number form": changed(lambda b: block(b, 1, 2, input={"path": "a", "limit": 2.0})),
    "result": changed(lambda b: block(b, 2, 0, content="other")),
    "an image": changed(
        lambda b: block(b, 2, 0, content=[{"type": "image", "source": {"type": "url", "url": "u"}}])
    ),
    "strict": changed(lambda b: b["tools"][0].update(strict=True)),
    "role": changed(lambda b: b["messages"][0].update(role="system")),
}


@pytest.mark.parametrize("row", UNSEEN)
def test_what_the_model_does_not_see(row: str) -> None:
    reader = make_reader()
    base = read(BASE, reader).chain
    assert read(UNSEEN[row], reader).chain == base


@pytest.mark.parametrize("row", SEEN)
def test_what_the_model_sees(row: str) -> None:
    assert read(SEEN[row]).chain.end != read(BASE).chain.end


def test_images_differ_by_their_source() -> None:
    def with_image(data: str) -> Chain:
        source = {"type": "base64", "media_type": "image/png", "data": data}
        image = [{"type": "image", "source": source, **MARK}]
        return read(changed(lambda b: b["messages"][0].update(content=image))).chain

    assert with_image("AA") == with_image("AA")
    assert with_image("AA") != with_image("BB")


def test_shuffles_are_forwarded_in_the_first_order() -> None:
    reader = make_reader()
    first = json.dumps(BASE).encode()
    reader.read(MESSAGES, "", first)
    for row in ("order of input", "order of a schema", "order of tools"):
        raw = json.dumps(UNSEEN[row]).encode()
        sent = json.loads(apply(raw, reader.read(MESSAGES, "", raw).splices))
        assert json.dumps(sent["tools"]) == json.dumps(BASE["tools"])
        assert json.dumps(sent["messages"]) == json.dumps(BASE["messages"])


@pytest.mark.parametrize(
    "change",
    [
        lambda b: b.update(system=7),
        lambda b: b.update(messages={}),
        lambda b: b["messages"].append("text"),
        lambda b: b["messages"].append({"content": "no role"}),
        lambda b: b["messages"].append({"role": "user", "content": [{"text": "no type"}]}),
        lambda b: b.update(tools={"a": 1}),
    ],
)
def test_unknown_shapes_have_no_chain_and_no_splices(change: Callable[[Body], object]) -> None:
    turn = read(changed(change))
    assert (len(turn.chain), turn.splices, turn.model) == (0, [], "m")


BILLING = "x-anthropic-billing-header: cc_version=2.1; cc_entrypoint=cli; cch=%s;"


def billed(cch: str, system: Any, turns: int = 0, system_first: bool = False) -> bytes:
    body = changed(lambda b: b.update(system=system))
    body["messages"] += [{"role": "user", "content": f"{n} " * 200} for n in range(turns)]
    order = ("model", "system", "tools", "messages") if system_first else tuple(body)
    return json.dumps({key: body[key] for key in order}).replace("CCH", cch).encode()


@pytest.mark.parametrize("system_first", [True, False])
@pytest.mark.parametrize(
    "system",
    [
        [{"type": "text", "text": BILLING % "CCH"}, *BASE["system"]],
        [{"type": "text", "text": BILLING % "CCH" + "\nYou are "}, BASE["system"][1]],
        BILLING % "CCH" + "\nYou are helpful.",
    ],
    ids=["block", "line", "text"],
)
def test_a_billing_line_is_neither_seen_nor_sent(system: Any, system_first: bool) -> None:
    reader = make_reader(rules=[BILLING_LINE])
    clean = read(BASE).chain
    sent, resumed = set(), []
    for turn, cch in enumerate(("a1b2c", "00000", "fffff")):
        raw = billed(cch, system, 0, system_first)
        read_turn = reader.read(MESSAGES, "", raw)
        assert read_turn.chain == clean
        assert {splice.kind for splice in read_turn.splices} == {"billing_line"}
        sent.add(apply(raw, read_turn.splices))
        longer = reader.read(MESSAGES, "", billed(cch, system, 5 + turn, system_first))
        resumed.append(longer.resumed_at > 0)
    [forwarded] = sent
    assert b"billing" not in forwarded
    assert "".join(_texts(json.loads(forwarded)["system"])) == "You are helpful."
    assert resumed[1:] == [True, True]


def _texts(system: Any) -> list[str]:
    return [system] if isinstance(system, str) else [block["text"] for block in system]


def test_other_text_of_the_same_length_is_read_anew() -> None:
    """What may differ where reading resumes is read, not taken for what it was."""
    reader = make_reader(rules=[BILLING_LINE])
    system = [{"type": "text", "text": BILLING % "CCH"}, *BASE["system"]]
    reader.read(MESSAGES, "", billed("a1b2c", system, 8, True))
    other = billed("a1b2c", system, 9, True).replace(b"helpful", b"hateful")
    fresh = make_reader(rules=[BILLING_LINE]).read(MESSAGES, "", other)
    again = reader.read(MESSAGES, "", other)
    assert (again.chain, again.splices) == (fresh.chain, fresh.splices)
