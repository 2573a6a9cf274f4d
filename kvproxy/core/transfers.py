"""Members of a body by which engines hand each other KV. They command an engine: it fetches from
the address it is told, and what does not fit ends its process.

vLLM takes them at the top, and the same names from what it hands on to its scheduler unread.
"""

import re
from collections.abc import Collection, Mapping

import msgspec

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
# Of a form, where it is JSON in a text.
_FIELD = re.compile(
    rb'name="?vllm_xargs"?[^\r\n]*\r?\n(?:[^\r\n]+\r?\n)*\r?\n(.*?)\r?\n--', re.DOTALL
)
_OBJECT: msgspec.json.Decoder[dict[str, msgspec.Raw]] = msgspec.json.Decoder(dict[str, msgspec.Raw])

Values = Mapping[str, Span | msgspec.Raw]


def members_of(body: bytes) -> Values:
    """Of a body that is passed on unread: a JSON object, or a form, of which only that is looked at
    which is handed on."""
    try:
        return _OBJECT.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _in_form(body) if b"vllm_xargs" in body else {}


def _in_form(body: bytes) -> Values:
    """Where it is there twice, the one that commands."""
    fields = [{"vllm_xargs": msgspec.Raw(found[1])} for found in _FIELD.finditer(body)]
    return next(filter(transfers, fields), {})


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
    return members_of(value.raw if isinstance(value, Span) else bytes(value))
