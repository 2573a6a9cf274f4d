"""How many tokens a prompt has up to a block of its chain, without tokenising.

Usage figures tell the exact token count at the end of every prompt that was answered: an anchor.
Between anchors tokens grow with the text (core/slopes), at rates fitted per model from those same
figures. The error is therefore that of the new part only.

Conversations that begin alike part in the middle of a text, where no count is known. So a prompt's
opening gets marks when its count is told: places where the tokens are estimated with the rates that
made this very prompt come out right.
"""

from array import array
from collections import OrderedDict

from kvproxy.core.blocks import FINE_TEXT_BYTES
from kvproxy.core.slopes import Slopes, measure
from kvproxy.core.types import Chain

# Anchors lie at segment ends of recent turns: farther back a fit from the start is as good.
_LOOK_BACK_BLOCKS = 512
# Every so many blocks of an opening is marked: between marks an estimate is off by a token or two.
_MARK_BLOCKS = 4


class Ruler:
    """Anchors and marks of at most `anchors_max` chain positions, least recently used first out."""

    def __init__(self, anchors_max: int) -> None:
        self._anchors_max = anchors_max
        self._anchors: OrderedDict[int, float] = OrderedDict()
        self._marks: set[int] = set()
        self._slopes: dict[str, Slopes] = {}

    def tokens_at(self, chain: Chain, blocks: int, model: str) -> float:
        """Estimated tokens of the first `blocks` blocks of `chain`."""
        anchor, tokens = self._nearest(chain, blocks)
        if anchor == blocks:
            return tokens
        return tokens + self._slopes_of(model).tokens(measure(chain, anchor, blocks))

    def tokens_shared(self, chain: Chain, blocks: int, model: str) -> float:
        """Tokens that `chain` shares with one that has its first `blocks` blocks and no more: where
        two part inside an opening's text, half a block more is alike, on average."""
        tokens = self.tokens_at(chain, blocks, model)
        if not 0 < blocks < len(chain) or chain.text_bytes[blocks] > FINE_TEXT_BYTES:
            return tokens
        ended, key = chain.segments, chain.hashes[blocks - 1]
        told = key in self._anchors and key not in self._marks
        between = ended[blocks - 1] != (ended[blocks - 2] if blocks > 1 else 0)
        if told or between:
            return tokens
        return tokens + next(self._slopes_of(model).along(chain, blocks)) / 2

    def token_ends(self, chain: Chain, held: int, model: str, least: int) -> "array[int]":
        """Estimated tokens up to the end of each block behind the first `held`.

        They never fall, nor below `least`. Work is proportional to those blocks.
        """
        tokens, ends = self.tokens_at(chain, held, model), array("I")
        grown = self._slopes_of(model).along(chain, held)
        for key, more in zip(chain.hashes[held:], grown, strict=True):
            known = self._anchors.get(key)
            tokens = tokens + more if known is None else known
            least = max(least, round(tokens))
            ends.append(least)
        return ends

    def learn(self, chain: Chain, blocks: int, tokens: float, model: str) -> None:
        """`tokens` is the true count of the first `blocks` blocks, as an engine reported it."""
        if not blocks:
            return
        anchor, known = self._nearest(chain, blocks - 1, exact=True)
        measured, slopes = measure(chain, anchor, blocks), self._slopes_of(model)
        if any(measured):
            slopes.learn(measured, tokens - known)
            self._mark(chain, blocks, tokens, slopes)
        self.told(chain.hashes[blocks - 1], tokens)

    def told(self, end: int, tokens: float) -> None:
        """Another proxy learned how many tokens the chain that ends with `end` has."""
        self._keep(end, tokens)
        self._marks.discard(end)
        while len(self._anchors) > self._anchors_max:
            key, _ = self._anchors.popitem(last=False)
            self._marks.discard(key)

    def _keep(self, key: int, tokens: float) -> None:
        self._anchors[key] = tokens
        self._anchors.move_to_end(key)

    def _nearest(self, chain: Chain, blocks: int, *, exact: bool = False) -> tuple[int, float]:
        """(blocks, tokens) of the last anchor or mark within the first `blocks` blocks; (0, 0) if
        none. `exact`: marks do not count."""
        anchors = self._anchors
        if blocks and not exact:
            # Most often it is the end itself.
            tokens = anchors.get(chain.hashes[blocks - 1])
            if tokens is not None:
                return blocks, tokens
        # Backwards, without a step of Python a block.
        behind = chain.hashes[max(0, blocks - _LOOK_BACK_BLOCKS) : blocks][::-1]
        for key in filter(anchors.__contains__, behind):
            if not (exact and key in self._marks):
                return blocks - behind.index(key), anchors[key]
        return 0, 0.0

    def _mark(self, chain: Chain, end: int, tokens: float, slopes: Slopes) -> None:
        """`tokens` up to block `end`: marks of the opening behind those that it has."""
        start, known = self._nearest(chain, end - 1)
        if start and chain.text_bytes[start - 1] >= FINE_TEXT_BYTES:
            return
        estimated = slopes.tokens(measure(chain, start, end))
        stretch = max(0.0, tokens - known) / estimated if estimated > 0 else 0.0
        for blocks, more in enumerate(slopes.along(chain, start), start + 1):
            known += more * stretch
            if blocks >= end or chain.text_bytes[blocks - 1] > FINE_TEXT_BYTES:
                return
            key = chain.hashes[blocks - 1]
            if blocks % _MARK_BLOCKS == 0 and key not in self._anchors:
                self._marks.add(key)
                self._keep(key, known)

    def _slopes_of(self, model: str) -> Slopes:
        slopes = self._slopes.get(model)
        if slopes is None:
            # Model names come from clients: an unbounded set of them must not grow this.
            if len(self._slopes) >= 1024:
                self._slopes.clear()
            slopes = self._slopes[model] = Slopes()
        return slopes
