import json

from kvproxy.core.dialects.openai_shapes import stream_error
from kvproxy.core.errors import ProxyError


def test_one_event_and_the_end_mark() -> None:
    event, done, rest = stream_error(ProxyError("upstream_broke", "two\n\nlines")).split(b"\n\n")
    assert json.loads(event.removeprefix(b"data: "))["error"]["message"] == "two\n\nlines"
    assert (done, rest) == (b"data: [DONE]", b"")
