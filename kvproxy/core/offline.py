"""Two saved bodies compared: what a replica that answered one would prefill for the other."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec

from kvproxy.core.breaks import compare
from kvproxy.core.canonical import Canonicaliser, Order
from kvproxy.core.dialects import BY_NAME
from kvproxy.core.dialects.base import Dialect
from kvproxy.core.excerpt import excerpt, first_difference
from kvproxy.core.layout import Place
from kvproxy.core.representatives import Representatives
from kvproxy.core.spans import object_spans
from kvproxy.core.turn import Turn, TurnReader
from kvproxy.core.types import Chain
from kvproxy.core.volatile import BILLING_LINE, Volatile

_BLOCK_BYTES = 256
# Of English and code with common tokenisers.
_BYTES_PER_TOKEN = 4


class Comparison(NamedTuple):
    """Tokens are estimates from text. `direct` is what a replica asked directly finds of the
    second prompt, `healed` what it finds behind kvproxy, by splices of the kinds `spliced`."""

    dialect: str
    cause: str
    tokens: int
    direct_tokens: int
    healed_tokens: int
    spliced: Sequence[str]
    place: Place | None
    character: int | None
    diff: Sequence[str]


def compare_bodies(
    before: bytes, now: bytes, dialect_name: str = "", *, show_text: bool = False
) -> Comparison:
    """Raises ProxyError for what is no JSON, ValueError for what no dialect understands."""
    dialect = BY_NAME[dialect_name] if dialect_name else guess(now)
    plain = _reader(Order.PRESERVE, ())
    one, other = (plain.read(dialect, "", body) for body in (before, now))
    for turn, which in ((one, "first"), (other, "second")):
        if not len(turn.chain):
            raise ValueError(f"the {which} body is no prompt of dialect {dialect.name}")
    acting = _reader(Order.FIRST_SEEN, (BILLING_LINE,))
    first = acting.read(dialect, "", before)
    healed = acting.read(dialect, "", now)
    broke = compare(one.chain, other.chain)
    values = [_value(*each, broke.segment) for each in ((before, one), (now, other))]
    return Comparison(
        dialect.name,
        broke.cause,
        _tokens(other.chain, len(other.chain)),
        _tokens(other.chain, broke.blocks),
        _tokens(healed.chain, compare(first.chain, healed.chain).blocks),
        sorted({splice.kind for splice in healed.splices}),
        other.layout.place(broke.segment, dialect.growing, other.members),
        _character(values),
        excerpt(*values, show_text=show_text),
    )


def guess(body: bytes) -> Dialect:
    """The dialect a body looks like."""
    value = msgspec.json.decode(body)
    if not isinstance(value, dict):
        raise ValueError("the body is no JSON object")
    if "messages" not in value:
        return BY_NAME["responses" if "input" in value else "completions"]
    tools = value.get("tools") or [{}]
    anthropic = "system" in value or (isinstance(tools[0], dict) and "input_schema" in tools[0])
    return BY_NAME["messages" if anthropic else "chat"]


def _reader(order: Order, rules: Sequence[Any]) -> TurnReader:
    canon = Canonicaliser(order, Representatives(2**30), Volatile(rules))
    return TurnReader(canon, _BLOCK_BYTES, 0)


def _tokens(chain: Chain, blocks: int) -> int:
    return chain.text_bytes[blocks - 1] // _BYTES_PER_TOKEN if blocks else 0


def _value(body: bytes, turn: Turn, segment: int) -> Any:
    """The value at the place of a segment, None where there is nothing any more."""
    if segment >= len(turn.chain.items):
        return None
    place = turn.layout.place(segment, turn.dialect.growing, turn.members)
    if place is None:
        return None
    name, *rest = place.pointer.lstrip("/").split("/")
    value = msgspec.json.decode((object_spans(body) or turn.members)[name].raw)
    for step in rest:
        value = value[int(step)] if isinstance(value, list) else value
    return value


def _character(values: Sequence[Any]) -> int | None:
    """Where two texts part, for the common case of one text that changed."""
    one, other = (value.get("content") if isinstance(value, dict) else value for value in values)
    if not isinstance(one, str) or not isinstance(other, str):
        return None
    return first_difference(one, other)
