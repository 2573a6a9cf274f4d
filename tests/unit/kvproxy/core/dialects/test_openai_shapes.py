import json

from kvproxy.core.dialects.openai_shapes import OpenAiErrors, ResponsesErrors
from kvproxy.core.errors import ProxyError

BROKE = ProxyError("upstream_broke", "two\n\nlines")


def test_one_event_and_the_end_mark() -> None:
    event, done, rest = OpenAiErrors().stream_error(BROKE).split(b"\n\n")
    assert json.loads(event.removeprefix(b"data: "))["error"]["message"] == "two\n\nlines"
    assert (done, rest) == (b"data: [DONE]", b"")


def test_responses_end_with_a_typed_event_alone() -> None:
    event, rest = ResponsesErrors().stream_error(BROKE).split(b"\n\n")
    kind, data = event.split(b"\n")
    told = json.loads(data.removeprefix(b"data: "))
    assert (kind, rest) == (b"event: error", b"")
    assert (told["type"], told["code"], told["message"]) == (
        "error",
        "upstream_broke",
        BROKE.message,
    )
    assert told["error"]["message"] == BROKE.message
