"""The beginnings that prompts have in common, hottest first, as small requests that make an engine
compute them: tools and system text, and one word in place of the conversation.

Heat halves every ten minutes without use.
"""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import orjson

from kvproxy.core.dialects.base import Dialect
from kvproxy.core.pieces import Body, whole
from kvproxy.core.spans import array_spans, object_spans
from kvproxy.core.turn import Turn
from kvproxy.core.types import Chain

_HALF_LIFE_S = 600.0
# Shorter ones are computed faster than they are worth asking for.
_TEXT_BYTES_MIN = 4096
_KNOWN_MAX = 4096
_ONE_WORD = {
    "chat": {"messages": [{"role": "user", "content": "."}], "max_tokens": 1},
    "messages": {"messages": [{"role": "user", "content": "."}], "max_tokens": 1},
    "responses": {"input": ".", "max_output_tokens": 1, "store": False},
}


class Prefix(NamedTuple):
    """`chain` covers what an engine holds after it was sent `body`."""

    path: str
    model: str
    chain: Chain
    body: bytes


@dataclass(slots=True)
class _Heat:
    value: float
    at: float
    session: str
    looked: bool = False
    prefix: Prefix | None = None

    def now(self, now: float) -> float:
        return float(self.value * 0.5 ** ((now - self.at) / _HALF_LIFE_S))


class HotPrefixes:
    """At most `max_bytes` of request bodies; those longest unused go first."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._heats: OrderedDict[int, _Heat] = OrderedDict()
        self.bytes = 0

    def used(self, turn: Turn, path: str, body: Body, now: float, session: str = "") -> None:
        """A prompt was answered; `body` is what was forwarded. It is looked at once, when a second
        session begins so: what only one has is where that one goes."""
        chain = turn.chain
        if not chain.text_bytes or chain.text_bytes[-1] < _TEXT_BYTES_MIN:
            return
        segments = sum([count for _, count in turn.layout.parts])
        blocks = chain.segment_ends[segments - 1] if segments else 0
        if not blocks or chain.text_bytes[blocks - 1] < _TEXT_BYTES_MIN:
            return
        key = chain.hashes[blocks - 1]
        heat = self._heats.get(key)
        if heat is None:
            self._heats[key] = _Heat(1.0, now, session)
        else:
            heat.value, heat.at = heat.now(now) + 1.0, now
            self._heats.move_to_end(key)
            if not heat.looked and not session == heat.session != "":
                heat.looked = True
                self._keep(heat, turn, path, whole(body), blocks)
        while self.bytes > self._max_bytes or len(self._heats) > _KNOWN_MAX:
            _, oldest = self._heats.popitem(last=False)
            self.bytes -= len(oldest.prefix.body) if oldest.prefix is not None else 0

    def hottest(self, serves: Callable[[str], bool], count: int, now: float) -> list[Prefix]:
        """Those of the models that are served, what saves most first."""
        kept = [
            (heat.now(now) * heat.prefix.chain.text_bytes[-1], heat.prefix)
            for heat in self._heats.values()
            if heat.prefix is not None and serves(heat.prefix.model)
        ]
        return [prefix for _, prefix in sorted(kept, key=lambda pair: -pair[0])[:count]]

    def _keep(self, heat: _Heat, turn: Turn, path: str, body: bytes, blocks: int) -> None:
        asked = _one_word(turn.dialect, body)
        if asked is not None and len(asked) <= self._max_bytes // 4:
            heat.prefix = Prefix(path, turn.model, turn.chain.until(blocks), asked)
            self.bytes += len(asked)


def _one_word(dialect: Dialect, body: bytes) -> bytes | None:
    """The body with the head of its prompt alone; None where that cannot be told apart."""
    last, members = _ONE_WORD.get(dialect.name), object_spans(body)
    if last is None or members is None:
        return None
    kept = [
        b"%b:%b" % (orjson.dumps(name), members[name].raw)
        for name in ("model", *dialect.head_members)
        if name in members and name != dialect.growing
    ]
    fields = dict(last)
    growing = members.get(dialect.growing)
    said = array_spans(growing.raw) if growing is not None else None
    lead = said[0].raw if said and dialect.leads(said[0]) else None
    if lead is not None:
        words = fields.pop(dialect.growing)
        if isinstance(words, str):
            words = [{"role": "user", "content": words}]
        assert isinstance(words, list)
        listed = b",".join([lead, *map(orjson.dumps, words)])
        kept.append(b"%b:[%b]" % (orjson.dumps(dialect.growing), listed))
    kept.append(orjson.dumps(fields)[1:-1])
    return b"{" + b",".join(kept) + b"}"
