"""Which headers of a message travel on, and as what text."""

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache

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
_NAMES_MAX, _NAME_BYTES_MAX = 1024, 64
# Anything else would be a way in; and an engine with vLLM's P2pNcclConnector connects to addresses
# that it finds in the request's id.
_REQUEST_ID = re.compile(r"(?!.*___(?:prefill|decode)_addr_)[!-~]{1,256}")
_PRIORITY = re.compile(r"-?[0-9]{1,9}", re.ASCII)


class _Lowered(dict[bytes, bytes]):
    """Header names in lower case, remembered by how clients write them: there are few ways."""

    def __missing__(self, name: bytes) -> bytes:
        lowered = name.lower()
        if len(self) < _NAMES_MAX and len(name) <= _NAME_BYTES_MAX:
            self[name] = lowered
        return lowered


LOWERED: Mapping[bytes, bytes] = _Lowered()


class _Texts(dict[bytes, str]):
    def __missing__(self, name: bytes) -> str:
        lowered = text(name).lower()
        if len(self) < _NAMES_MAX and len(name) <= _NAME_BYTES_MAX:
            self[name] = lowered
        return lowered


_TEXTS = _Texts()


def by_name(headers: Sequence[tuple[bytes, bytes]]) -> dict[str, str]:
    """For reading: names in lower case, of those that are repeated the last value."""
    names = _TEXTS
    try:
        return {names[name]: value.decode() for name, value in headers}
    except UnicodeDecodeError:
        return {names[name]: text(value) for name, value in headers}


@lru_cache(64)
def _stays(without: frozenset[bytes]) -> frozenset[bytes]:
    return _HOP_BY_HOP | without


def end_to_end(
    headers: Sequence[tuple[bytes, bytes]], without: frozenset[bytes] = frozenset()
) -> list[tuple[bytes, bytes]]:
    """Headers as they came, without those of this hop, those that `Connection` declares to be so,
    and those in `without` (lower case)."""
    lowered, stays = LOWERED, _stays(without)
    kept = [pair for pair in headers if lowered[pair[0]] not in stays]
    if len(kept) == len(headers):
        return kept
    listed = b",".join([value.lower() for name, value in headers if lowered[name] == b"connection"])
    if not listed:
        return kept
    named = {name.strip() for name in listed.split(b",")} - _HOP_BY_HOP - {b"", b"close"}
    return [pair for pair in kept if lowered[pair[0]] not in named] if named else kept


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


def request_id_of(given: str) -> str:
    """What a client calls its request, if that may be repeated to replicas, clients and logs; ""
    else, as for what tells an engine where KV is to come from or go to."""
    return given if _REQUEST_ID.fullmatch(given) else ""


def priority_of(header: Mapping[str, str]) -> int:
    """What `X-Vllm-Priority` asks for, lower first; 0 where it is absent or no small integer."""
    asked = header.get("x-vllm-priority", "").strip()
    if not asked:
        return 0
    return int(asked) if _PRIORITY.fullmatch(asked) else 0
