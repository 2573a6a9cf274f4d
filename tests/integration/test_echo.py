"""What a replica generated goes back to it as it was generated, however clients spell it."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.support.proxies import proxied, settled
from tests.support.recording import answer, recording
from tests.support.wire import ask, post
from tests.unit.kvproxy.core.dialects.test_generated import BODIES, STREAMS

SAID = '{"path": "a.py", "limit": 20, "caf\\u00e9": [1, 2]}'
BACK = '{"caf\u00e9":[1,2],"limit":20,"path":"a.py"}'
CHANGED = '{"caf\u00e9":[1,2],"limit":21,"path":"a.py"}'
QUESTION = {"role": "user", "content": "x" * 300}
EVENTS = [(b"content-type", b"text/event-stream")]


def chat(arguments: str) -> dict[str, Any]:
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": arguments}}
    return {"messages": [QUESTION, {"role": "assistant", "tool_calls": [call]}]}


def messages(arguments: str) -> dict[str, Any]:
    use = {"type": "tool_use", "id": "t", "name": "f", "input": json.loads(arguments)}
    return {"messages": [QUESTION, {"role": "assistant", "content": [use]}]}


def responses(arguments: str) -> dict[str, Any]:
    call = {"type": "function_call", "call_id": "c", "name": "f", "arguments": arguments}
    return {"input": [QUESTION, call]}


PATHS = {
    "chat": "/v1/chat/completions",
    "messages": "/v1/messages",
    "responses": "/v1/responses",
}
TURNS: dict[str, Callable[[str], dict[str, Any]]] = {
    "chat": chat, "messages": messages, "responses": responses
}  # fmt: skip
EACH = pytest.mark.parametrize("dialect", PATHS)


def first_turn(dialect: str, **members: Any) -> dict[str, Any]:
    name = "input" if dialect == "responses" else "messages"
    return {"model": "m", name: [QUESTION], **members}


async def forwarded(
    dialect: str, generated: bytes, second: dict[str, Any], *,
    chunk: int = 0, stream: bool = False, canonical: dict[str, Any] | None = None,
    authorization: str = "Bearer one", members: dict[str, Any] | None = None,
) -> bytes:  # fmt: skip
    """The body of the turn after `generated` was answered, as a replica receives it."""
    async with (
        recording(models=["m"]) as [replica],
        proxied([replica.url], canonical=canonical or {}) as (app, url),
    ):
        replica.script = lambda _: answer(
            generated, headers=EVENTS if stream else None, chunk=chunk, chunked=stream
        )
        first = first_turn(dialect, stream=stream, **(members or {}))
        for body, who in ((first, "Bearer one"), ({"model": "m", **second}, authorization)):
            raw = json.dumps(body, ensure_ascii=False).encode()
            got = await ask(url, post(raw, PATHS[dialect], authorization=who))
            assert got.status == 200
        await settled(app)
    return replica.received[-1].body


def arguments_in(dialect: str, body: bytes) -> str:
    """As they stand in the body: a string's text, or an object's bytes."""
    value = json.loads(body)
    if dialect == "chat":
        return str(value["messages"][1]["tool_calls"][0]["function"]["arguments"])
    if dialect == "responses":
        return str(value["input"][1]["arguments"])
    return body[body.index(b'"input":') + 8 : body.index(b"}]}]")].decode().strip()


@EACH
@pytest.mark.parametrize("chunk", [0, 1, 17, 1000])
async def test_streamed_tool_calls_go_back_as_generated(dialect: str, chunk: int) -> None:
    stream = STREAMS[dialect]([SAID], "I look.", 6)
    body = await forwarded(dialect, stream, TURNS[dialect](BACK), chunk=chunk, stream=True)
    assert arguments_in(dialect, body) == SAID


@EACH
async def test_tool_calls_of_whole_answers_go_back_as_generated(dialect: str) -> None:
    body = await forwarded(dialect, BODIES[dialect]([SAID], ""), TURNS[dialect](BACK))
    assert arguments_in(dialect, body) == SAID


@EACH
async def test_what_means_something_else_is_the_clients(dialect: str) -> None:
    turn = TURNS[dialect](CHANGED)
    body = await forwarded(dialect, BODIES[dialect]([SAID], ""), turn)
    assert body == json.dumps({"model": "m", **turn}, ensure_ascii=False).encode()


@EACH
async def test_nothing_generated_for_one_tenant_is_sent_for_another(dialect: str) -> None:
    turn = TURNS[dialect](BACK)
    body = await forwarded(dialect, BODIES[dialect]([SAID], ""), turn, authorization="Bearer two")
    assert body == json.dumps({"model": "m", **turn}, ensure_ascii=False).encode()


@EACH
@pytest.mark.parametrize(
    "canonical", [{"echo": False}, {"enabled": False}, {"dry_run": True}, {"order": "preserve"}]
)
async def test_it_can_be_switched_off(dialect: str, canonical: dict[str, Any]) -> None:
    turn = TURNS[dialect](BACK)
    answered = BODIES[dialect]([SAID], "")
    body = await forwarded(dialect, answered, turn, canonical=canonical)
    assert body == json.dumps({"model": "m", **turn}, ensure_ascii=False).encode()


SCHEMA = {
    "chat": {"response_format": {"type": "json_object"}},
    "messages": {"output_config": {"format": {"type": "json_schema", "schema": {}}}},
    "responses": {"text": {"format": {"type": "json_object"}}},
}


@EACH
@pytest.mark.parametrize("stream", [False, True])
async def test_answers_in_json_go_back_as_generated(dialect: str, stream: bool) -> None:
    said, back = '{"b": 1, "a": [true]}', '{"a":[true],"b":1}'
    made = STREAMS[dialect]([], said, 3) if stream else BODIES[dialect]([], said)
    kind = "output_text" if dialect == "responses" else "text"
    name = "input" if dialect == "responses" else "messages"
    for content in (back, [{"type": kind, "text": back}]):
        turn = {name: [QUESTION, {"role": "assistant", "content": content}]}
        body = await forwarded(dialect, made, turn, stream=stream, chunk=9, members=SCHEMA[dialect])
        got = json.loads(body)[name][1]["content"]
        assert (got if isinstance(got, str) else got[0]["text"]) == said
    # Words that are no JSON, or were not asked to be, are nobody's but the client's.
    turn = {name: [QUESTION, {"role": "assistant", "content": back}]}
    untouched = await forwarded(dialect, made, turn, stream=stream)
    assert untouched == json.dumps({"model": "m", **turn}).encode()


async def test_a_spelling_that_was_sent_before_stays() -> None:
    """Its blocks are cached: one more generation of the same call must not unmake them."""
    async with (
        recording(models=["m"]) as [replica],
        proxied([replica.url]) as (_, url),
    ):
        replica.script = lambda _: answer(BODIES["chat"]([SAID], ""))
        for _ in range(2):
            raw = json.dumps({"model": "m", **chat(BACK)}).encode()
            await ask(url, post(raw))
            assert replica.received[-1].body == raw
