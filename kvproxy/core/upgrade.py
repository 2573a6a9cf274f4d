"""Requests for another protocol: WebSockets, as /v1/realtime speaks them, become a tunnel.

Nothing else does: a tunnel is bytes that nobody reads, and through one of another HTTP a client
could ask an engine for what it may not.
"""

from collections.abc import Mapping, Sequence
from urllib.parse import parse_qs, parse_qsl, urlencode

WEBSOCKET = ((b"connection", b"Upgrade"), (b"upgrade", b"websocket"))


def asks_for_websocket(
    method: str, headers: Sequence[tuple[bytes, bytes]], header: Mapping[str, str]
) -> bool:
    """RFC 6455 §4.1, for a request of HTTP/1.1; `header` has lower-case names."""
    asked = [value.strip().lower() for name, value in headers if name.lower() == b"upgrade"]
    if method != "GET" or asked != [b"websocket"] or "sec-websocket-key" not in header:
        return False
    if header.get("content-length", "0") != "0" or "transfer-encoding" in header:
        return False
    tokens = header.get("connection", "").lower().split(",")
    return "upgrade" in (token.strip() for token in tokens)


def model_asked_for(target: str) -> str:
    """The model in the query of a target, where realtime clients name it; "" for none, and for
    several, of which nobody knows which an engine takes."""
    query = target.partition("?")[2]
    try:
        named = set(parse_qs(query, max_num_fields=64).get("model", ()))
    except ValueError:
        return ""
    return named.pop() if len(named) == 1 else ""


def asking_for(target: str, model: str) -> str:
    """`target` with that model in its query, which names one."""
    path, _, query = target.partition("?")
    pairs = parse_qsl(query, keep_blank_values=True, max_num_fields=64)
    return f"{path}?" + urlencode([(k, model if k == "model" else v) for k, v in pairs])
