import json
import re
from array import array
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvproxy.core.spans import object_spans
from kvproxy.core.token_ids import TokenIds, asking, can_ask
from tests.support.shared import shared_path

CHAT = "/v1/chat/completions"
# What a model may say that looks like what is taken out.
SAID = st.text() | st.sampled_from(
    ['"token_ids":[1,2]', ',"prompt_token_ids":[3]', '{"token_ids":[4]}', "\\", '\\",', "\n\n"]
)


def compact(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def event(said: str, ids: list[int] | None, prompt: list[int] | None) -> bytes:
    choice = {"index": 0, "delta": {"content": said}, "token_ids": ids}
    return b"data: " + compact({"choices": [choice], "prompt_token_ids": prompt}) + b"\n\n"


@given(
    st.lists(st.tuples(SAID, st.lists(st.integers(0, 2**32 - 1), min_size=1)), max_size=6),
    st.lists(st.integers(0, 2**32 - 1), min_size=1),
    st.lists(st.integers(0, 2000), max_size=8),
)
def test_a_stream_is_as_if_they_had_not_been_asked_for(
    said: list[tuple[str, list[int]]], prompt: list[int], cuts: list[int]
) -> None:
    """However the network cuts it."""
    told = b"".join(event(text, ids, None if i else prompt) for i, (text, ids) in enumerate(said))
    plain = b"".join(event(text, None, None) for text, _ in said)
    ids, got = TokenIds(), b""
    edges = [0, *sorted(min(cut, len(told)) for cut in cuts), len(told)]
    for start, end in pairwise(edges):
        got += ids.feed(told[start:end])
    assert got + ids.rest() == plain
    assert ids.prompt == (array("I", prompt) if said else None)


@given(SAID, st.lists(st.integers(0, 2**32 - 1), min_size=1), st.booleans())
def test_a_whole_answer_too(said: str, prompt: list[int], spaced: bool) -> None:
    def answer(ids: list[int] | None) -> bytes:
        choice = {"message": {"content": said}, "token_ids": ids}
        value = {"choices": [choice], "prompt_token_ids": ids}
        return json.dumps(value).encode() if spaced else compact(value)

    ids, told = TokenIds(), answer(prompt)
    for at in range(0, len(told), 7):
        ids.keep(told[at : at + 7])
    assert json.loads(ids.rest()) == json.loads(answer(None))
    assert ids.prompt == array("I", prompt)


def test_ids_that_are_none_are_taken_out_all_the_same() -> None:
    ids = TokenIds()
    assert ids.feed(b'data: {"prompt_token_ids":[]}\n\n') == b'data: {"prompt_token_ids":null}\n\n'
    assert ids.feed(b'data: {"token_ids":[99999999999]}\n\n') == b'data: {"token_ids":null}\n\n'
    assert ids.prompt is None


def test_events_arrive_when_they_are_whole() -> None:
    ids = TokenIds()
    assert ids.feed(b'data: {"a":1}\n\ndata: {"b"') == b'data: {"a":1}\n\n'
    assert ids.feed(b":2}\n\n") == b'data: {"b":2}\n\n'
    assert ids.rest() == b""


def test_what_an_error_names() -> None:
    ids = TokenIds()
    ids.keep(b'{"error":{"message":"unknown field return_')
    ids.keep(b'token_ids"}}')
    ids.rest()
    assert ids.names_field
    assert ids.prompt is None


@pytest.mark.parametrize(
    ("path", "body", "can"),
    [
        (CHAT, {"messages": []}, True),
        (CHAT, {"messages": [], "n": 1, "stream": True}, True),
        ("/v1/completions", {"prompt": "text"}, True),
        ("/v1/completions", {"prompt": [1, 2]}, False),
        ("/v1/messages", {"messages": []}, False),
        ("/v1/responses", {"input": "x"}, False),
        (CHAT, {"messages": [], "n": 2}, False),
        (CHAT, {"messages": [], "logprobs": True}, False),
        (CHAT, {"messages": [], "return_token_ids": False}, False),
        (CHAT, {"messages": [], "kv_transfer_params": {}}, False),
        (CHAT, {}, False),
    ],
)
def test_what_can_be_asked(path: str, body: dict[str, Any], can: bool) -> None:
    members = object_spans(compact(body))
    assert members is not None
    assert can_ask(path, members) is can


@given(st.sampled_from([b'{"messages":[]}', b' {\n "model" : "m" }', '{"a":"é"}'.encode()]))
def test_the_request_says_what_it_said_and_one_thing_more(body: bytes) -> None:
    assert json.loads(asking(body)) == json.loads(body) | {"return_token_ids": True}
    assert asking(body).replace(b'"return_token_ids":true,', b"") == body


def test_a_recorded_answer_has_null_there() -> None:
    told = shared_path("vllm-samples", "http", "chat_return_token_ids.body").read_bytes()
    ids = TokenIds()
    ids.keep(told)
    plain = json.loads(ids.rest())
    assert ids.prompt is not None
    assert len(ids.prompt) == plain["usage"]["prompt_tokens"]
    assert plain["prompt_token_ids"] is plain["choices"][0]["token_ids"] is None


@pytest.mark.parametrize(
    ("asked", "plain"), [("chat-token-ids", "chat"), ("chat-token-ids-stream", "chat-stream")]
)
def test_recorded_answers_differ_in_nothing_else(asked: str, plain: str) -> None:
    """Of a real engine, byte for byte but for what is drawn and counted anew each time."""
    lines = (Path(__file__).parents[3] / "golden" / "vllm_answers.jsonl").read_text().splitlines()
    bodies = {each["name"]: each["body"].encode() for each in map(json.loads, lines)}
    ids = TokenIds()
    got = ids.feed(bodies[asked]) if "stream" in asked else b""
    if "stream" not in asked:
        ids.keep(bodies[asked])
    drawn = re.compile(rb'"(id|created|cached_tokens|created_cache_tokens)":("[^"]*"|\d+)')
    assert drawn.sub(rb"\1", got + ids.rest()) == drawn.sub(rb"\1", bodies[plain])
    assert ids.prompt is not None
    assert len(ids.prompt) == 858
