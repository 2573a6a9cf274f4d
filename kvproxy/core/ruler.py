"""How many tokens a prompt has up to a block of its chain, without tokenising.

Usage figures tell the exact token count at the end of every prompt that was answered: an anchor.
Between anchors tokens grow with text bytes and segments, at slopes fitted per model from those same
figures. The error is therefore that of the new part only.
"""

from array import array
from collections import OrderedDict

from kvproxy.core.types import Chain

# Anchors lie at segment ends of recent turns: farther back a fit from the start is as good.
_LOOK_BACK_BLOCKS = 512
_FORGET = 0.998


class Slopes:
    """Least squares with forgetting of tokens on (text bytes, segments), from a stated prior."""

    def __init__(self, tokens_per_byte: float = 0.25, tokens_per_segment: float = 4.0) -> None:
        # The prior weighs as much as two short messages, so real figures take over at once.
        self._bb, self._bs, self._ss = 1e4, 0.0, 2.0
        self._bt = tokens_per_byte * self._bb
        self._st = tokens_per_segment * self._ss
        self.per_byte, self.per_segment = tokens_per_byte, tokens_per_segment

    def learn(self, text_bytes: int, segments: int, tokens: float) -> None:
        self._bb = self._bb * _FORGET + text_bytes * text_bytes
        self._bs = self._bs * _FORGET + text_bytes * segments
        self._ss = self._ss * _FORGET + segments * segments
        self._bt = self._bt * _FORGET + text_bytes * tokens
        self._st = self._st * _FORGET + segments * tokens
        determinant = self._bb * self._ss - self._bs * self._bs
        if determinant > 1e-9 * self._bb * self._ss:
            self.per_byte = (self._bt * self._ss - self._st * self._bs) / determinant
            self.per_segment = (self._st * self._bb - self._bt * self._bs) / determinant


class Ruler:
    """Anchors of at most `anchors_max` chain positions, least recently used first out."""

    def __init__(self, anchors_max: int) -> None:
        self._anchors_max = anchors_max
        self._anchors: OrderedDict[int, float] = OrderedDict()
        self._slopes: dict[str, Slopes] = {}

    def tokens_at(self, chain: Chain, blocks: int, model: str) -> float:
        """Estimated tokens of the first `blocks` blocks of `chain`."""
        anchor, tokens = self._nearest(chain, blocks)
        if anchor == blocks:
            return tokens
        text_bytes, segments = _between(chain, anchor, blocks)
        slopes = self._slopes_of(model)
        more = slopes.per_byte * text_bytes + slopes.per_segment * segments
        # Slopes fitted to odd figures may point down; no prompt has fewer tokens than its prefix.
        return tokens + max(0.0, more)

    def token_ends(self, chain: Chain, held: int, model: str, least: int) -> "array[int]":
        """Estimated tokens up to the end of each block behind the first `held`.

        They never fall, nor below `least`. Work is proportional to those blocks.
        """
        anchor, tokens = self._nearest(chain, held)
        slopes, ends = self._slopes_of(model), array("I")
        for blocks in range(held + 1, len(chain) + 1):
            known = self._anchors.get(chain.hashes[blocks - 1])
            if known is not None:
                anchor, tokens = blocks, known
            text_bytes, segments = _between(chain, anchor, blocks)
            more = slopes.per_byte * text_bytes + slopes.per_segment * segments
            least = max(least, round(tokens + max(0.0, more)))
            ends.append(least)
        return ends

    def learn(self, chain: Chain, blocks: int, tokens: float, model: str) -> None:
        """`tokens` is the true count of the first `blocks` blocks, as an engine reported it."""
        if not blocks:
            return
        anchor, known = self._nearest(chain, blocks - 1)
        text_bytes, segments = _between(chain, anchor, blocks)
        if text_bytes > 0:
            self._slopes_of(model).learn(text_bytes, segments, tokens - known)
        self.told(chain.hashes[blocks - 1], tokens)

    def told(self, end: int, tokens: float) -> None:
        """Another proxy learned how many tokens the chain that ends with `end` has."""
        self._anchors[end] = tokens
        self._anchors.move_to_end(end)
        while len(self._anchors) > self._anchors_max:
            self._anchors.popitem(last=False)

    def _nearest(self, chain: Chain, blocks: int) -> tuple[int, float]:
        """(blocks, tokens) of the last anchor within the first `blocks` blocks; (0, 0) if none."""
        for end in range(blocks, max(0, blocks - _LOOK_BACK_BLOCKS), -1):
            tokens = self._anchors.get(chain.hashes[end - 1])
            if tokens is not None:
                return end, tokens
        return 0, 0.0

    def _slopes_of(self, model: str) -> Slopes:
        slopes = self._slopes.get(model)
        if slopes is None:
            # Model names come from clients: an unbounded set of them must not grow this.
            if len(self._slopes) >= 1024:
                self._slopes.clear()
            slopes = self._slopes[model] = Slopes()
        return slopes


def _upto(chain: Chain, blocks: int) -> tuple[int, int]:
    return (chain.text_bytes[blocks - 1], chain.segments[blocks - 1]) if blocks else (0, 0)


def _between(chain: Chain, start: int, end: int) -> tuple[int, int]:
    start_bytes, start_segments = _upto(chain, start)
    end_bytes, end_segments = _upto(chain, end)
    return end_bytes - start_bytes, end_segments - start_segments
