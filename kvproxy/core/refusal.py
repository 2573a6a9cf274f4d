"""What an engine says instead of a stream, when the client's stream has begun already: its status
cannot be sent any more, its words can."""

from collections.abc import Sequence
from functools import lru_cache

import orjson

from kvproxy.core.errors import ProxyError

# An engine's error is a line or two of JSON; whatever is longer is shown in part.
SAID_BYTES_MAX = 2**16
_EXCERPT_BYTES = 300


class Said:
    """What an engine says, as far as it is worth keeping."""

    def __init__(self) -> None:
        self.kept = bytearray()

    def listen(self, chunk: bytes) -> None:
        self.kept += chunk[: SAID_BYTES_MAX - len(self.kept)]


def is_stream(status: int, headers: Sequence[tuple[bytes, bytes]]) -> bool:
    """Whether these bytes can go on in an event stream that began as one, unencoded."""
    return status == 200 and _announced(tuple(headers))


# The answers of one engine mostly begin alike.
@lru_cache(256)
def _announced(headers: tuple[tuple[bytes, bytes], ...]) -> bool:
    named = {name.lower(): value.lower() for name, value in headers}
    events = named.get(b"content-type", b"").startswith(b"text/event-stream")
    return events and named.get(b"content-encoding", b"identity") == b"identity"


def refusal(replica: str, status: int, said: bytes) -> ProxyError:
    """The engine's own error body where that is JSON as clients know it, else an excerpt."""
    try:
        body = orjson.loads(said)
    except orjson.JSONDecodeError:
        body = None
    own = isinstance(body, dict) and isinstance(body.get("error"), dict)
    excerpt = said[:_EXCERPT_BYTES].decode(errors="replace")
    return ProxyError(
        "upstream_refused",
        f"Replica {replica} answered {status} and no event stream: {excerpt}",
        # Written anew: an event's data is one line.
        body=orjson.dumps(body) if own else b"",
    )
