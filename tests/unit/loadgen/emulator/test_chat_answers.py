"""Chat answers token by token; their shapes are held to a real engine's in the golden tests."""

import json

import pytest

from loadgen.emulator.answers import DONE, Answer, Hits
from loadgen.emulator.chat_answers import ChatWriter, finish_reason
from loadgen.emulator.replies import Reply, ToolCall
from loadgen.emulator.requests import Sampling

HITS = Hits(prompt_tokens=100, cached_tokens=64, block_size=16)


def writer(*replies: Reply, **sampling: object) -> ChatWriter:
    count = len(replies)
    asked = Sampling("emu", 2, count=count, **sampling)
    return ChatWriter(Answer("chatcmpl-1", 7, "emu", asked, [b"abcd" * 100], replies))


def text(said: str = "Here the") -> Reply:
    return Reply(said, said.encode(), "length")


def calling(wanted: str = "auto", reason: str = "stop") -> Reply:
    return Reply("<call>{12}</call>", b"abcd" * 17, reason, ToolCall("id", "f", "{12}", 6, wanted))


def chunks(data: bytes) -> list[dict]:
    events = data.removesuffix(DONE).split(b"\n\n")
    return [json.loads(event.removeprefix(b"data: ")) for event in events if event]


def test_the_stream_says_what_the_body_says():
    one = text()
    stream = writer(one)
    parts = [
        chunk["choices"][0]
        for at in range(2)
        for chunk in chunks(stream.tokens(HITS, 0, at, at + 1))
    ]
    choice = writer(one).whole(HITS)["choices"][0]
    assert "".join(part["delta"]["content"] for part in parts) == choice["message"]["content"]
    assert [part["finish_reason"] for part in parts] == [None, None, choice["finish_reason"]]
    assert stream.closing(HITS) == DONE


def test_all_choices_begin_with_the_first_token():
    stream = writer(text(), text(), temperature=0.5)
    first = chunks(stream.tokens(HITS, 1, 0, 1))
    assert [chunk["choices"][0]["index"] for chunk in first] == [0, 1, 1]
    assert [chunk["choices"][0]["delta"].get("role") for chunk in first] == ["assistant"] * 2 + [
        None
    ]
    assert len(chunks(stream.tokens(HITS, 0, 0, 1))) == 1


def test_a_call_is_streamed_as_name_arguments_and_an_empty_end():
    stream = writer(calling())
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks(stream.tokens(HITS, 0, 0, 17))]
    name, arguments, end = deltas[1:]
    assert name == {
        "content": None,
        "tool_calls": [{"id": "id", "type": "function", "index": 0, "function": {"name": "f"}}],
    }
    assert arguments["tool_calls"] == [{"index": 0, "function": {"arguments": "{12}"}}]
    assert (arguments["content"], end) == (None, {})


def test_tokens_that_say_nothing_make_no_chunk():
    stream = writer(calling())
    stream.tokens(HITS, 0, 0, 1)
    assert stream.tokens(HITS, 0, 1, 2) == b""
    assert len(chunks(stream.tokens(HITS, 0, 16, 17))) == 1


@pytest.mark.parametrize(
    ("wanted", "reason", "content"),
    [("auto", "tool_calls", None), ("required", "tool_calls", ""), ("named", "stop", "")],
)
def test_a_whole_call(wanted, reason, content):
    choice = writer(calling(wanted)).whole(HITS)["choices"][0]
    assert (choice["finish_reason"], choice["message"]["content"]) == (reason, content)
    assert choice["message"]["tool_calls"][0]["function"] == {"name": "f", "arguments": "{12}"}


def test_half_a_call_is_text():
    choice = writer(calling("required", "length")).whole(HITS)["choices"][0]
    assert "tool_calls" not in choice["message"]
    assert choice["message"]["content"] == "<call>{12}</call>"
    assert finish_reason(calling("required", "length")) == "length"


def test_usage_at_the_end_or_in_every_chunk():
    last = chunks(writer(text(), include_usage=True).closing(HITS))[-1]
    assert last["choices"] == []
    assert last["usage"]["completion_tokens"] == 2
    running = writer(text(), include_usage=True, continuous_usage=True)
    counts = [
        chunk["usage"]["completion_tokens"] for chunk in chunks(running.tokens(HITS, 0, 0, 2))
    ]
    assert counts == [0, 2]
