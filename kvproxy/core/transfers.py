"""Members of a body by which engines hand each other KV. They command an engine: it fetches from
the address it is told, and what does not fit ends its process.

vLLM takes them at the top, and the same names from what it hands on to its scheduler unread.
"""

import json
import re
from collections.abc import Collection, Mapping

import msgspec

from kvproxy.core.errors import ProxyError
from kvproxy.core.spans import Span

_TRANSFERS = frozenset(
    {
        *("kv_transfer_params", "ec_transfer_params"),
        *("bootstrap_host", "bootstrap_port", "bootstrap_room"),
    }
)
# Objects that have them inside, and one that the second of them may have in turn.
_HANDED_ON, _INSIDE = frozenset({"vllm_xargs", "sampling_params"}), "extra_args"
_WATCHED = _TRANSFERS | _HANDED_ON
# Of a form, where it is JSON in a text: a part whose head says so anywhere, and where that ends.
_FIELD, _HEAD_END, _FIELDS_MAX = b"vllm_xargs", re.compile(rb"\r?\n\r?\n"), 64
_OBJECT: msgspec.json.Decoder[dict[str, msgspec.Raw]] = msgspec.json.Decoder(dict[str, msgspec.Raw])

# What is JSON for an engine and not for us is read as slowly as it does, up to here.
_ODD_BYTES_MAX = 2**20
_BEGINNING_BYTES = 256

Values = Mapping[str, Span | msgspec.Raw]


def members_of(body: bytes) -> Values:
    """Of a body that is passed on unread: a JSON object as an engine reads it, or a form, of which
    only that is looked at which is handed on; none of what says nothing to an engine. Raises
    ProxyError invalid_json for a large object that is not as RFC 8259 has it."""
    found = _object(body)
    if found is not None:
        return found
    return _in_form(body)


def _object(body: bytes) -> Values | None:
    """None for what an engine does not read as an object, either."""
    try:
        return _OBJECT.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        coding = json.detect_encoding(body)
    if body[:_BEGINNING_BYTES].decode(coding, "replace").lstrip("\ufeff \t\r\n")[:1] in ("{", ""):
        return _read_oddly(body)
    return None


def _read_oddly(body: bytes) -> Values:
    """With the decoder of Python's engines: it takes UTF-16, and NaN."""
    if len(body) > _ODD_BYTES_MAX:
        raise ProxyError("invalid_json", "The body is no JSON object in UTF-8.")
    try:
        read = json.loads(body)
        if isinstance(read, dict):
            return {name: msgspec.Raw(json.dumps(value).encode()) for name, value in read.items()}
    except (ValueError, RecursionError):
        pass
    return {}


def _in_form(body: bytes) -> Values:
    """Where it is there twice, the one that commands. Every part is looked at once: a pattern over
    all of them takes the square of their number. Raises ProxyError bad_request for more of them
    than anybody means."""
    at = body.find(_FIELD)
    for _ in range(_FIELDS_MAX):
        head = _HEAD_END.search(body, at) if at >= 0 else None
        end = body.find(b"\n--", head.end()) if head else -1
        if head is None or end < 0:
            return {}
        found = {"vllm_xargs": msgspec.Raw(body[head.end() : end])}
        if transfers(found):
            return found
        at = body.find(_FIELD, end)
    raise ProxyError("bad_request", f"More than {_FIELDS_MAX} parts of a form are `vllm_xargs`.")


def transfers(members: Values) -> Collection[str]:
    """Names of those among `members`, wherever an engine would find them."""
    if _WATCHED.isdisjoint(members):
        return frozenset()
    found = set(_TRANSFERS.intersection(members))
    for name in _HANDED_ON.intersection(members):
        inner = _inside(members[name])
        found |= _TRANSFERS.intersection(inner)
        if _INSIDE in inner:
            found |= _TRANSFERS.intersection(_inside(inner[_INSIDE]))
    return found


def _inside(value: Span | msgspec.Raw) -> Values:
    return _object(value.raw if isinstance(value, Span) else bytes(value)) or {}
