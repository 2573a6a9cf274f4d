import json

import pytest

from loadgen.emulator.answers import Answer, Hits
from loadgen.emulator.messages_answers import MessagesWriter, stop_reason
from loadgen.emulator.replies import Reply, ToolCall
from loadgen.emulator.requests import Sampling

HITS = Hits(prompt_tokens=100, cached_tokens=64, block_size=16)
CALL = ToolCall("id", "f", '{"a":1}', 6)
TEXT = Reply("Here the", b"Here the", "stop")
CALLING = Reply('<call>{"a":1}</call>', b"abcd" * 20, "stop", CALL)
HALF = Reply('<call>{"a":', b"abcd" * 11, "length", CALL)


def writer(reply: Reply) -> MessagesWriter:
    answer = Answer("chatcmpl-1", 7, "emu", Sampling("emu", 99), [b"abcd" * 100], [reply])
    return MessagesWriter(answer)


def events(reply: Reply) -> list[dict]:
    stream = writer(reply)
    data = b"".join(stream.tokens(HITS, 0, at, at + 1) for at in range(reply.count))
    found = []
    for event in (data + stream.closing(HITS)).rstrip(b"\n").split(b"\n\n"):
        name, payload = event.split(b"\n")
        found.append(json.loads(payload.removeprefix(b"data: ")))
        assert name == b"event: " + found[-1]["type"].encode()
    return found


def test_the_split_is_right_at_the_end_and_absent_at_the_start_of_a_stream():
    start, *_, end, stop = events(TEXT)
    assert start["message"]["usage"] == {"input_tokens": 100, "output_tokens": 0}
    assert end["usage"] == writer(TEXT).whole(HITS)["usage"] == {
        "input_tokens": 4,
        "output_tokens": 2,
        "cache_creation_input_tokens": 32,
        "cache_read_input_tokens": 64,
    }  # fmt: skip
    assert stop == {"type": "message_stop"}


def test_text_is_one_block():
    kinds = [event["type"].removeprefix("content_block_") for event in events(TEXT)[1:-2]]
    assert kinds == ["start", "delta", "delta", "stop"]
    assert writer(TEXT).whole(HITS)["content"] == [{"type": "text", "text": "Here the"}]


def test_a_call_is_one_block_whose_input_comes_in_pieces():
    _, start, *deltas, stop, end, _ = events(CALLING)
    assert start["content_block"] == {"type": "tool_use", "id": "id", "name": "f", "input": {}}
    assert "".join(delta["delta"]["partial_json"] for delta in deltas) == CALL.arguments
    assert (stop["type"], end["delta"]["stop_reason"]) == ("content_block_stop", "tool_use")
    block = writer(CALLING).whole(HITS)["content"][0]
    assert (block["type"], block["input"]) == ("tool_use", {"a": 1})


def test_half_a_call_is_text_unless_it_is_streamed():
    assert writer(HALF).whole(HITS)["content"] == [{"type": "text", "text": '<call>{"a":'}]
    assert events(HALF)[1]["content_block"]["type"] == "tool_use"


@pytest.mark.parametrize(
    ("reply", "reason"), [(TEXT, "end_turn"), (CALLING, "tool_use"), (HALF, "max_tokens")]
)
def test_stop_reasons(reply, reason):
    assert stop_reason(reply) == reason


def test_a_dead_engine_ends_a_stream_with_an_error():
    assert writer(TEXT).broken().startswith(b"event: error\ndata: {")
