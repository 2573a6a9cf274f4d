"""Which headers of a message travel on, and as what text."""

import re
from collections.abc import Mapping, Sequence

# RFC 9110 §7.6.1: these belong to one connection, not to the message.
_HOP_BY_HOP = frozenset(
    {
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
_PRIORITY = re.compile(r"-?[0-9]{1,9}", re.ASCII)


def end_to_end(headers: Sequence[tuple[bytes, bytes]]) -> list[tuple[str, str]]:
    """Headers without those of this hop and those that `Connection` declares to be so.

    A name that is repeated keeps its first spelling: a multidict that is filled with several
    spellings of one name would keep the last alone.
    """
    named = [(text(name), text(value)) for name, value in headers]
    listed = ",".join(value for name, value in named if name.lower() == "connection")
    of_this_hop = _HOP_BY_HOP | {name.strip().lower() for name in listed.split(",")}
    spelling: dict[str, str] = {}
    return [
        (spelling.setdefault(name.lower(), name), value)
        for name, value in named
        if name.lower() not in of_this_hop
    ]


def text(raw: bytes) -> str:
    """UTF-8, which is also what goes out, so that it arrives as it came; else ISO 8859-1."""
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw.decode("latin-1")


def priority_of(header: Mapping[str, str]) -> int:
    """What `X-Vllm-Priority` asks for, lower first; 0 where it is absent or no small integer."""
    asked = header.get("x-vllm-priority", "0").strip()
    return int(asked) if _PRIORITY.fullmatch(asked) else 0
