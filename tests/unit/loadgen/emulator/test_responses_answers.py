import json

from loadgen.emulator.answers import Answer, Hits
from loadgen.emulator.replies import Reply, ToolCall
from loadgen.emulator.requests import Sampling
from loadgen.emulator.responses_answers import ResponseStore, ResponsesWriter
from loadgen.emulator.responses_requests import responses_call

HITS = Hits(prompt_tokens=100, cached_tokens=64, block_size=16)
TEXT = Reply("Here the", b"Here the", "length")
CALLING = Reply("<call>{12}</call>", b"abcd" * 17, "stop", ToolCall("id", "f", "{12}", 6))
CUT = Reply("<cal", b"abcd" * 4, "length", ToolCall("id", "f", "{12}", 6))


def writer(reply: Reply, kept: ResponseStore | None = None, **fields: object) -> ResponsesWriter:
    call = responses_call({"input": "x"} | fields)
    answer = Answer("resp_1", 7, "emu", Sampling("emu", 99), [b"abcd" * 100], [reply])
    return ResponsesWriter(answer, call, kept or ResponseStore(0), context_tokens=150)


def events(reply: Reply) -> list[dict]:
    stream = writer(reply)
    data = stream.opening()
    data += b"".join(stream.tokens(HITS, 0, at, at + 1) for at in range(reply.count))
    found = []
    for event in (data + stream.closing(HITS)).rstrip(b"\n").split(b"\n\n"):
        name, payload = event.split(b"\n")
        found.append(json.loads(payload.removeprefix(b"data: ")))
        assert name == b"event: " + found[-1]["type"].encode()
    assert [event["sequence_number"] for event in found] == list(range(len(found)))
    return found


def kinds(reply: Reply) -> list[str]:
    return [event["type"].removeprefix("response.") for event in events(reply)]


def test_text_is_an_item_with_one_part():
    assert kinds(TEXT) == [
        "created", "in_progress", "output_item.added", "content_part.added", "output_text.delta",
        "output_text.delta", "output_text.done", "content_part.done", "output_item.done",
        "completed",
    ]  # fmt: skip


def test_the_stream_ends_with_the_whole_answer():
    for reply in (TEXT, CALLING):
        assert events(reply)[-1]["response"] == writer(reply).whole(HITS)


def test_a_call_is_an_item_without_parts():
    found = events(CALLING)
    assert found[2]["item"]["arguments"] == ""
    deltas = [event["delta"] for event in found if event["type"].endswith("arguments.delta")]
    assert "".join(deltas) == found[-3]["arguments"] == "{12}"
    assert found[-1]["response"]["output"][0]["call_id"] == "id"


def test_half_a_call_is_text_unless_it_is_streamed():
    assert writer(CUT).whole(HITS)["output"][0]["content"][0]["text"] == "<cal"
    assert kinds(CUT) == ["created", "in_progress", "completed"]
    assert events(CUT)[-1]["response"]["status"] == "incomplete"


def test_usage_and_bounds():
    whole = writer(TEXT).whole(HITS)
    assert whole["usage"]["input_tokens_details"]["cached_tokens"] == 64
    assert whole["usage"]["total_tokens"] == 102
    assert whole["max_output_tokens"] == 50, "what the context leaves"


def test_a_dead_engine_breaks_the_stream_off():
    assert writer(TEXT).broken() is None


def test_the_store_forgets_the_oldest():
    store = ResponseStore(1)
    writer(TEXT, store, input="first").whole(HITS)
    stored = store.get("resp_1")
    assert [message["content"] for message in stored.conversation()] == ["first", "Here the"]
    other = {"id": "resp_2", "output": []}
    store.put(type(stored)(other, []))
    assert store.get("resp_1") is None
    assert store.get("resp_2").conversation() == []


def test_nothing_is_stored_unless_wanted():
    store = ResponseStore(4)
    writer(TEXT, store, store=False).whole(HITS)
    assert store.get("resp_1") is None
    writer(TEXT, ResponseStore(0)).whole(HITS)
