"""Where the turns of a prompt begin, by the tokens that its engine announced.

Most chat templates begin every turn with the same token. It is among the first of a prompt, and
comes again as often as there are turns: so it can be told without a tokeniser, and with it how many
tokens each turn has. Where none is seen to do so nothing is said.
"""

from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from math import inf
from typing import NamedTuple

from kvproxy.core.event_source import Grown, root
from kvproxy.core.items import KIND_MASK, Kind
from kvproxy.core.types import Chain

# A prompt may begin with one token that begins no turn.
_CANDIDATES = 2
# What was announced of a prompt is soon heard of, or never: most of what is open was cached.
_OPEN_MAX = 512
# The answer begins one more, and the last ones may lie in a block that is not whole.
_MORE = 2
# By how much a turn may differ from what was estimated of it: in tokens, and in its share.
_OFF_TOKENS, _OFF_SHARE = 32, 0.6


class Begin(NamedTuple):
    """Behind so many blocks of the chain, which are so many tokens, another turn begins."""

    blocks: int
    tokens: int


# The tokens that a chain is estimated to have between two of its blocks.
Estimate = Callable[[Chain, int, int], float]


class _Prompt:
    """`upto` tokens of it were announced, the last block of them being `last`; `places` of each
    token that may be the one that begins turns."""

    __slots__ = ("chain", "last", "model", "places", "tokens", "upto")

    def __init__(self, chain: Chain, model: str) -> None:
        self.chain, self.model = chain, model
        self.places: dict[int, list[int]] = {}
        self.last = self.upto = self.tokens = 0

    def add(self, grown: Grown, block_size: int) -> bool:
        """False where the announcement does not go on from what was told."""
        if grown.parent != (self.last if self.upto else root(block_size)) or not grown.tokens:
            return False
        if not self.upto:
            self.places = {token: [] for token in grown.tokens[:_CANDIDATES]}
        most = len(self.chain.items) + _MORE
        for token, places in list(self.places.items()):
            if len(places) + grown.tokens.count(token) > most:
                # It begins no turns.
                del self.places[token]
            else:
                places += _places(grown.tokens, token, self.upto)
        self.last, self.upto = grown.hashes[-1], self.upto + len(grown.tokens)
        return True


class Turned(NamedTuple):
    """A prompt whose tokens were all announced."""

    chain: Chain
    model: str
    places: Sequence[Sequence[int]]


class OpenPrompts:
    """Prompts of which engines announce the tokens, from the first one on."""

    def __init__(self) -> None:
        self._open: OrderedDict[str, _Prompt] = OrderedDict()

    def __len__(self) -> int:
        return len(self._open)

    def opened(self, request_id: str, chain: Chain, model: str) -> None:
        """Only prompts of two turns or more say where one begins."""
        if len(chain.items) > 1:
            self._open[request_id] = _Prompt(chain, model)
            if len(self._open) > _OPEN_MAX:
                self._open.popitem(last=False)

    def grown(self, grown: Grown, block_size: int) -> Turned | None:
        prompt = self._open.get(grown.session)
        if prompt is None:
            return None
        if not prompt.add(grown, block_size):
            # The beginning of it was in the cache.
            del self._open[grown.session]
            return None
        return self._whole(grown.session, prompt, block_size)

    def finished(self, request_id: str, tokens: int, block_size: int) -> Turned | None:
        """`tokens` 0: nobody knows how long the prompt was."""
        prompt = self._open.get(request_id)
        if prompt is None:
            return None
        prompt.tokens = tokens
        if not tokens:
            del self._open[request_id]
            return None
        return self._whole(request_id, prompt, block_size)

    def _whole(self, request_id: str, prompt: _Prompt, block_size: int) -> Turned | None:
        tokens = prompt.tokens
        if not tokens or prompt.upto < tokens // block_size * block_size:
            return None
        del self._open[request_id]
        places = [found[: bisect_left(found, tokens)] for found in prompt.places.values()]
        return Turned(prompt.chain, prompt.model, places)


def turn_begins(turned: Turned, estimate: Estimate) -> list[Begin]:
    """All but the first, which begins with the prompt; empty where they cannot be told."""
    chain, best, least = turned.chain, list[Begin](), inf
    each, merged = (list(_turn_ends(chain, merged=merged)) for merged in (False, True))
    for ends in (each, merged) if len(merged) < len(each) else (each,):
        for places in turned.places:
            if len(places) > 1 and len(ends) <= len(places) <= len(ends) + _MORE:
                begins = [Begin(*pair) for pair in zip(ends, places[1:], strict=False)]
                off = _off(chain, begins, estimate)
                if off < least:
                    best, least = begins, off
    return best


def _turn_ends(chain: Chain, *, merged: bool) -> Iterable[int]:
    """Blocks up to the end of each turn but the last. Tools are printed with what stands before
    them; results of several calls are one turn where they are `merged`."""
    before = -1
    for number, item in enumerate(chain.items):
        kind = item & KIND_MASK
        if before < 0:
            # What is no text stands before the first turn.
            before = -1 if kind == Kind.FRAME else kind
            continue
        goes_on = kind == Kind.TOOL or (merged and kind == before == Kind.RESULT)
        if not goes_on:
            yield chain.segment_ends[number - 1]
        before = kind


def _off(chain: Chain, begins: Iterable[Begin], estimate: Estimate) -> float:
    """How many tokens these are off from what is estimated; infinite for what cannot be."""
    before, off = Begin(0, 0), 0.0
    for begin in begins:
        tokens = begin.tokens - before.tokens
        estimated = estimate(chain, before.blocks, begin.blocks)
        differ = abs(tokens - estimated)
        if differ > _OFF_TOKENS + _OFF_SHARE * max(tokens, estimated):
            return inf
        before, off = begin, off + differ
    return off


def _places(tokens: Sequence[int], token: int, base: int) -> list[int]:
    found, at = list[int](), -1
    # Not a step of Python a token.
    for _ in range(tokens.count(token)):
        at = tokens.index(token, at + 1)
        found.append(base + at)
    return found
