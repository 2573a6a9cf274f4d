"""Lines of the decision log: what was decided and what came of it, in digests and numbers.

A prompt is told by its chain: digests of its blocks and the bytes of text up to the end of each.
Most of it is that of the turn before, so a line names an earlier line (`base`) and how many blocks
it shares with that (`keep`); only the rest is spelled out. All digests are keyed with a secret of
this process, so that nobody can find out from the file whether a text he guesses was sent.
"""

from base64 import b64encode
from collections import OrderedDict
from hashlib import blake2b
from typing import NamedTuple

import orjson
from xxhash import xxh3_64_intdigest

from kvproxy.core.types import Identity
from kvproxy.proxy import Record

VERSION = 1
# Conversations whose last chain is kept to name it: what is beyond them is spelled out again.
_BASES_MAX = 4096
_WORD = 8


class Decided(NamedTuple):
    """One request, copied out of its record: `hashes` 8 and `text_bytes` 4 bytes a block, both
    little-endian; `fields` goes into the line as it is."""

    identity: Identity
    hashes: bytes
    text_bytes: bytes
    fields: dict[str, object]


def decided(record: Record, at: float) -> Decided | None:
    """`at`: when it was accepted, in seconds since 1970. None for what was no prompt."""
    turn, identity, placement, usage = record.turn, record.identity, record.placement, record.usage
    if turn is None or identity is None:
        return None
    fields: dict[str, object] = {
        "at": round(at, 4),
        "id": record.exchange.request_id,
        "model": identity.model,
        "evidence": identity.evidence,
        "outcome": record.outcome,
        "status": record.status,
        "attempts": record.attempts,
        "waited_s": round(record.waited_s, 4),
        "ttft_s": None if record.ttft_s is None else round(record.ttft_s, 4),
        "total_s": round(record.total_s, 4),
    }
    if placement is not None:
        placing, replica = placement.placing, placement.replica
        fields |= {
            "policy": placement.policy,
            "replica": replica.id,
            "hbm_tokens": replica.hbm_tokens,
            "block_size": replica.block_size,
            "estimated_tokens": placing.prompt_tokens,
            "predicted": placement.predicted_cached_tokens,
            "source": placing.match.source,
            "terms": {k: round(v, 4) for k, v in placing.score.terms().items() if v},
        }
    if usage is not None:
        fields |= {
            "prompt_tokens": usage.prompt_tokens,
            "cached": usage.cached_tokens,
            "completion_tokens": usage.completion_tokens,
        }
    chain = turn.chain
    return Decided(identity, chain.hashes.tobytes(), chain.text_bytes.tobytes(), fields)


class Lines:
    """Spells lines; one for each file, since a line refers to lines of its own file alone."""

    def __init__(self, secret: bytes) -> None:
        assert len(secret) >= _WORD
        self._secret = secret
        self._seed = int.from_bytes(secret[:_WORD], "little")
        self._bases: OrderedDict[str, tuple[int, bytes]] = OrderedDict()
        self._count = 0

    def first(self, at: float) -> bytes:
        """Begins a file, or goes on with one of another process."""
        self._bases.clear()
        self._count = 0
        return orjson.dumps({"kvproxy_decisions": VERSION, "at": round(at, 3)}) + b"\n"

    def line(self, one: Decided) -> bytes:
        session, agent = self._name(one.identity.session), self._name(one.identity.agent)
        name = f"{session}/{agent}" if session else one.hashes[:_WORD].hex()
        base, before = self._bases.pop(name, (None, b""))
        keep = _shared(before, one.hashes)
        self._count += 1
        self._bases[name] = (self._count, one.hashes)
        if len(self._bases) > _BASES_MAX:
            self._bases.popitem(last=False)
        told = {
            "n": self._count,
            "tenant": self._name(one.identity.tenant),
            "session": session,
            "agent": agent,
            "parent": self._name(one.identity.parent),
            **one.fields,
            "base": base if keep else None,
            "keep": keep,
            "blocks": self._blocks(one.hashes[keep * _WORD :]),
            "text_bytes": b64encode(one.text_bytes[keep * _WORD // 2 :]).decode(),
        }
        return orjson.dumps(told) + b"\n"

    def _name(self, text: str) -> str:
        if not text:
            return ""
        return blake2b(text.encode(), digest_size=_WORD, key=self._secret).hexdigest()

    def _blocks(self, hashes: bytes) -> str:
        keyed = (
            xxh3_64_intdigest(hashes[at : at + _WORD], self._seed).to_bytes(_WORD, "little")
            for at in range(0, len(hashes), _WORD)
        )
        return b64encode(b"".join(keyed)).decode()


def _shared(one: bytes, other: bytes) -> int:
    """Leading blocks that two chains have in common; a chain's hash covers all before it."""
    low, high = 0, min(len(one), len(other)) // _WORD
    while low < high:
        middle = (low + high) // 2
        span = slice(middle * _WORD, middle * _WORD + _WORD)
        if one[span] == other[span]:
            low = middle + 1
        else:
            high = middle
    return low
