"""How many tokens a prompt has up to a block of its chain, without tokenising.

Usage figures tell the exact token count at the end of every prompt that was answered: an anchor.
Between anchors tokens grow with the text (core/slopes), at rates fitted per model from those same
figures. The error is therefore that of the new part only.

Conversations that begin alike part in the middle of a text, where no count is known. So a prompt's
opening gets marks when its count is told: places where the tokens are estimated with the rates that
made this very prompt come out right. Once such a part was found in a cache, its reported length
takes the mark's place: off by half an engine block, or by what was evicted meanwhile. Rates are
never fitted from such a place on: what it is off by would come back as a rate. They are fitted to
it once, with doubt of its own, where another prompt parts there, so that nothing was evicted.
"""

from array import array
from bisect import bisect_left, bisect_right
from collections import OrderedDict
from collections.abc import Mapping
from itertools import accumulate, islice
from math import floor

from kvproxy.core.blocks import FINE_TEXT_BYTES
from kvproxy.core.slopes import Measure, Slopes, measure
from kvproxy.core.turn_begins import Begin, Turned, turn_begins
from kvproxy.core.types import Chain

# Anchors lie at segment ends of recent turns: farther back a fit from the start is as good.
_LOOK_BACK_BLOCKS = 512
# Every so many blocks of an opening is marked: between marks an estimate is off by a token or two.
_MARK_BLOCKS = 4
# So many turns of a prompt teach rates: more say little that is new.
_TURNS_MAX = 16
# What long stretches consist of is kept, of so many: some 100 kB.
_LONG_BLOCKS, _MEASURED_MAX = 64, 256
# So many estimates are kept of so many models; a turn seldom adds more segments.
_GUESSES_MAX, _GUESSED_MODELS_MAX, _TURN_SEGMENTS = 4096, 16, 16
_NO_GUESSES: dict[int, float] = {}


class Ruler:
    """Anchors and marks of at most `anchors_max` chain positions, least recently used first out."""

    def __init__(self, anchors_max: int) -> None:
        self._anchors_max = anchors_max
        self._anchors: OrderedDict[int, float] = OrderedDict()
        self._marks: set[int] = set()
        self._hits: set[int] = set()
        self._slopes: dict[str, Slopes] = {}
        self._measured: dict[tuple[int, int], Measure] = {}
        # What was estimated since anything was learned, by model and chain position. A turn asks
        # for its end several times, and where engines report no counts the next begins from there.
        self._guesses: dict[str, dict[int, float]] = {}

    def tokens_at(self, chain: Chain, blocks: int, model: str) -> float:
        """Estimated tokens of the first `blocks` blocks of `chain`."""
        if not blocks:
            return 0.0
        # Most often it is the end itself.
        key = chain.hashes[blocks - 1]
        known = self._anchors.get(key)
        if known is not None:
            return known
        guesses = self._guesses.get(model)
        if guesses is None or len(guesses) >= _GUESSES_MAX:
            if len(self._guesses) >= _GUESSED_MODELS_MAX:
                self._guesses.clear()
            guesses = self._guesses[model] = {}
        guess = guesses.get(key)
        if guess is None:
            anchor, tokens = self._nearest(chain, blocks, guesses)
            guess = tokens + self._slopes_of(model).tokens(self._measure(chain, anchor, blocks))
            guesses[key] = guess
        return guess

    def tokens_held(self, chain: Chain, blocks: int, model: str, *, parts: bool) -> float:
        """Tokens of `chain` in a cache that has its first `blocks` blocks and no more: because what
        is held `parts` from it there, or was cut short. Where others part inside an opening's text
        half a block more is alike, on average."""
        tokens = self.tokens_at(chain, blocks, model)
        if not parts or not 0 < blocks < len(chain) or chain.text_bytes[blocks] > FINE_TEXT_BYTES:
            return tokens
        key = chain.hashes[blocks - 1]
        if (key in self._anchors and key not in self._marks) or self._between(chain, blocks):
            return tokens
        return tokens + self._slopes_of(model).along(chain, blocks, blocks + 1)[0] / 2

    def token_ends(self, chain: Chain, held: int, model: str, least: int) -> "array[int]":
        """Estimated tokens up to the end of each block behind the first `held`.

        They never fall, nor below `least`. Work is proportional to those blocks.
        """
        anchors, hashes, slopes = self._anchors, chain.hashes, self._slopes_of(model)
        # Half a token more, to be cut off, is rounded.
        first = tokens = self.tokens_at(chain, held, model) + 0.5
        start, end, grown = held, len(hashes), list[float]()
        # From one known count to the next, in few steps of Python a block.
        for key in filter(anchors.__contains__, hashes[held:]):
            at = hashes.index(key, start)
            grown += slopes.along(chain, start, at, tokens)
            tokens, start = anchors[key] + 0.5, at + 1
            grown.append(tokens)
        grown += slopes.along(chain, start, end, tokens)
        ends = array("I", list(map(floor, grown)))
        if start > held or first < least:
            # What is known may be less than what was estimated before it.
            return array("I", islice(accumulate(ends, max, initial=least), 1, None))
        return ends

    def reach(
        self, chain: Chain, held: int, blocks: int, model: str, *, end: int, position: int
    ) -> tuple[int, int]:
        """How many of the first `blocks` blocks, of which the last ends at `end`, end by an earlier
        `position`, at least `held`; and where the last of these does. Work is proportional to what
        is beyond it."""
        anchors, known, tokens = self._anchors, 0.0, float(end)
        limit, slopes = position + 1.0, self._slopes_of(model)
        if anchors:
            # What is known far before the place says no more about it.
            near = slopes.reach(chain, held, blocks, tokens + 0.5, limit)[0] - _LONG_BLOCKS
            beyond, last, at = chain.hashes[max(held, near) : blocks - 1][::-1], blocks - 1, 0
            for key in filter(anchors.__contains__, beyond):
                at = beyond.index(key, at)
                if anchors[key] + 0.5 < position + 1:
                    held, known = last - at, anchors[key] + 0.5
                    break
                blocks, tokens = last - at, anchors[key]
        found, tokens = slopes.reach(chain, held, blocks, tokens + 0.5, limit)
        return found, int(known if found == held else max(known, tokens))

    def learn(self, chain: Chain, blocks: int, tokens: float, model: str) -> None:
        """`tokens` is the true count of the first `blocks` blocks, which are a whole prompt."""
        if not blocks:
            return
        key, slopes = chain.hashes[blocks - 1], self._slopes_of(model)
        if self._anchors.get(key) == tokens and self._is_exact(key):
            # The same prompt again says nothing new.
            self._anchors.move_to_end(key)
            return
        self._unsettle()
        anchor, known = self._nearest(chain, blocks - 1, exact=True)
        if not anchor or not slopes.passes_over():
            measured = self._measure(chain, anchor, blocks)
            if any(measured):
                slopes.learn(measured, tokens - known)
        self.told(key, tokens)
        if not anchor or chain.text_bytes[anchor - 1] < FINE_TEXT_BYTES:
            self._mark(chain, blocks, slopes)

    def hit(
        self, chain: Chain, blocks: int, tokens: float, off: float, model: str, *, parts: bool
    ) -> None:
        """An engine held about so many tokens of a prompt, which are the first `blocks` blocks of
        `chain`; give or take `off`. Says nothing new of what was known exactly, unless it is less:
        templates may end a prompt otherwise than they go on. If more, the answer was held too.

        Where what is held `parts` from `chain` there, and was not cut short, rates are learned too.
        """
        if not blocks:
            return
        key = chain.hashes[blocks - 1]
        if self._is_exact(key) and tokens >= self._anchors[key] - off:
            return
        new = key not in self._hits
        self._unsettle()
        self._keep(key, tokens)
        self._marks.discard(key)
        self._hits.add(key)
        self._bound()
        if new and parts and chain.text_bytes[blocks - 1] <= FINE_TEXT_BYTES:
            self._parted(chain, blocks, tokens, off, model)

    def _parted(self, chain: Chain, blocks: int, tokens: float, off: float, model: str) -> None:
        """Two prompts were seen to part after so many tokens, which lie somewhere in an engine
        block, somewhere in the next block of the chain. Told once of a place: it is one text."""
        slopes = self._slopes_of(model)
        anchor, known = self._nearest(chain, blocks - 1, exact=True)
        measured = self._measure(chain, anchor, blocks)
        if not self._between(chain, blocks):
            behind = slopes.along(chain, blocks, blocks + 1)[0] / 2 if blocks < len(chain) else 0.0
            tokens, off = tokens - behind, off + behind
        slopes.learn(measured, max(0.0, tokens - known), off)
        if self._is_exact(chain.end):
            self._mark(chain, len(chain), slopes)

    def turned(self, turned: Turned) -> None:
        """Its engine announced all tokens of this prompt, whose count is known: where its turns
        begin is looked for. What a template puts between them is off by a few tokens."""
        chain, slopes = turned.chain, self._slopes_of(turned.model)
        if not self._is_exact(chain.end):
            return
        begins = turn_begins(turned, lambda *part: slopes.tokens(measure(*part)))[:_TURNS_MAX]
        if not begins or chain.hashes[begins[0].blocks - 1] in self._hits:
            return
        self._unsettle()
        start, tokens = 0, 0.0
        for begin in (*begins, Begin(len(chain), int(self._anchors[chain.end]))):
            slopes.learn(measure(chain, start, begin.blocks), begin.tokens - tokens)
            start, tokens = begin
        for blocks, count in begins:
            key = chain.hashes[blocks - 1]
            self._keep(key, count)
            self._marks.discard(key)
            self._hits.add(key)
        self._mark(chain, len(chain), slopes, anew=True)

    def told(self, end: int, tokens: float) -> None:
        """Another proxy learned how many tokens the chain that ends with `end` has."""
        self._unsettle()
        self._keep(end, tokens)
        self._marks.discard(end)
        self._hits.discard(end)
        self._bound()

    def _unsettle(self) -> None:
        """Something was learned: what was estimated before may come out otherwise."""
        self._guesses.clear()

    def _keep(self, key: int, tokens: float) -> None:
        self._anchors[key] = float(tokens)
        self._anchors.move_to_end(key)

    def _bound(self) -> None:
        while len(self._anchors) > self._anchors_max:
            key, _ = self._anchors.popitem(last=False)
            self._marks.discard(key)
            self._hits.discard(key)

    def _is_exact(self, key: int) -> bool:
        return key in self._anchors and key not in self._marks and key not in self._hits

    def _nearest(
        self,
        chain: Chain,
        blocks: int,
        guesses: Mapping[int, float] = _NO_GUESSES,
        *,
        exact: bool = False,
    ) -> tuple[int, float]:
        """(blocks, tokens) of the last anchor or mark within the first `blocks` blocks, or else of
        a guess a turn before them; (0, 0) if none. `exact`: only ends of whole prompts count."""
        anchors, hashes = self._anchors, chain.hashes
        if guesses:
            # Prompts end where segments do.
            last = bisect_right(chain.segment_ends, blocks)
            for end in chain.segment_ends[max(0, last - _TURN_SEGMENTS) : last][::-1]:
                guess = guesses.get(hashes[end - 1])
                if guess is not None:
                    if not anchors or anchors.keys().isdisjoint(hashes[end:blocks]):
                        return end, guess
                    break
        if not anchors:
            return 0, 0.0
        # Backwards, without a step of Python a block.
        behind = hashes[max(0, blocks - _LOOK_BACK_BLOCKS) : blocks][::-1]
        for key in filter(anchors.__contains__, behind):
            if not exact or self._is_exact(key):
                return blocks - behind.index(key), anchors[key]
        return 0, 0.0

    def _between(self, chain: Chain, blocks: int) -> bool:
        """Whether a segment ends with the first `blocks` blocks."""
        ends = chain.segment_ends
        at = bisect_left(ends, blocks)
        return at < len(ends) and ends[at] == blocks

    def _mark(self, chain: Chain, end: int, slopes: Slopes, *, anew: bool = False) -> None:
        """The tokens up to block `end` are known: marks of the opening between the places where
        they are. Those that it has stay once rates are settled, unless `anew`."""
        anchors, marks, hashes = self._anchors, self._marks, chain.hashes
        fine = bisect_right(chain.text_bytes, FINE_TEXT_BYTES, 0, end - 1)
        start, known, places = 0, 0.0, []
        if slopes.settled and not anew:
            start, known = self._nearest(chain, fine)
        else:
            found = filter(anchors.__contains__, hashes[:fine])
            places = [key for key in found if key not in marks]
        for key in (*places, hashes[end - 1]):
            stop = end if key == hashes[end - 1] else hashes.index(key, start) + 1
            tokens = anchors[key]
            estimated = slopes.tokens(self._measure(chain, start, stop))
            stretch = max(0.0, tokens - known) / estimated if estimated > 0 else 0.0
            last, first = min(stop - 1, fine), _MARK_BLOCKS * (start // _MARK_BLOCKS + 1)
            grown = slopes.along(chain, start, last)[first - start - 1 :: _MARK_BLOCKS]
            keys = hashes[first - 1 : last : _MARK_BLOCKS]
            marks.update(keys)
            anchors.update(zip(keys, [known + stretch * more for more in grown], strict=True))
            start, known = stop, tokens
        self._bound()

    def _measure(self, chain: Chain, start: int, end: int) -> Measure:
        """Long stretches are kept: a first turn's is wanted when it is placed and when it is
        counted."""
        if end - start < _LONG_BLOCKS:
            return measure(chain, start, end)
        key = chain.hashes[end - 1], start
        found = self._measured.get(key)
        if found is None:
            if len(self._measured) >= _MEASURED_MAX:
                self._measured.clear()
            found = self._measured[key] = measure(chain, start, end)
        return found

    def _slopes_of(self, model: str) -> Slopes:
        slopes = self._slopes.get(model)
        if slopes is None:
            # Model names come from clients: an unbounded set of them must not grow this.
            if len(self._slopes) >= 1024:
                self._slopes.clear()
            slopes = self._slopes[model] = Slopes()
        return slopes
