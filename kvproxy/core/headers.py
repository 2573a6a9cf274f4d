"""Which headers of a message travel on, and as what text."""

import re
from collections.abc import Mapping, Sequence

# RFC 9110 §7.6.1: these belong to one connection, not to the message.
_HOP_BY_HOP = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    }
)
_PRIORITY = re.compile(r"-?[0-9]{1,9}", re.ASCII)


def end_to_end(
    headers: Sequence[tuple[bytes, bytes]], without: frozenset[bytes] = frozenset()
) -> list[tuple[bytes, bytes]]:
    """Headers as they came, without those of this hop, those that `Connection` declares to be so,
    and those in `without` (lower case)."""
    kept, listed = [], b""
    for pair in headers:
        name = pair[0].lower()
        if name in _HOP_BY_HOP:
            if name == b"connection":
                listed += b"," + pair[1].lower()
        elif name not in without:
            kept.append(pair)
    named = {name.strip() for name in listed.split(b",")} - _HOP_BY_HOP - {b"", b"close"}
    return [pair for pair in kept if pair[0].lower() not in named] if named else kept


def resized(headers: Sequence[tuple[bytes, bytes]], size: int) -> list[tuple[bytes, bytes]]:
    """Headers of a body that has `size` bytes now; without a length there is none to correct."""
    return [
        (name, b"%d" % size if name.lower() == b"content-length" else value)
        for name, value in headers
    ]


def text(raw: bytes) -> str:
    """UTF-8 where it is that, else ISO 8859-1: for reading, never for sending on."""
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw.decode("latin-1")


def priority_of(header: Mapping[str, str]) -> int:
    """What `X-Vllm-Priority` asks for, lower first; 0 where it is absent or no small integer."""
    asked = header.get("x-vllm-priority", "0").strip()
    return int(asked) if _PRIORITY.fullmatch(asked) else 0
