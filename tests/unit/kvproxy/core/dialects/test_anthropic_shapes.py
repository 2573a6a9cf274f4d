import json

from kvproxy.core.dialects.anthropic_shapes import AnthropicErrors
from kvproxy.core.errors import ProxyError


def test_a_stream_ends_with_one_event_and_no_mark() -> None:
    error = ProxyError("upstream_broke", "two\n\nlines")
    event, rest = AnthropicErrors().stream_error(error).split(b"\n\n")
    kind, data = event.split(b"\n")
    assert (kind, rest) == (b"event: error", b"")
    told = json.loads(data.removeprefix(b"data: "))
    assert told == {"type": "error", "error": {"type": "api_error", "message": "two\n\nlines"}}
    assert json.loads(AnthropicErrors().error_body(error)) == told
