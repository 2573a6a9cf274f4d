"""How many tokens a stretch of a prompt has, by the text in it: who wrote it and how many parts.

A schema costs more tokens a byte than prose, and a template wraps each part in some of its own. The
rates are learned per model from the token counts that engines report: a Kalman filter whose beliefs
start at a stated prior and drift slowly, so that a change of clients is followed.
"""

import re
import sys
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from operator import mul, sub

from kvproxy.core.items import KIND_MASK, KINDS, Kind
from kvproxy.core.types import Chain

# What tokens come from: text bytes by kind of segment, how many segments are no tools, how many
# are, and whether the first of those is among them: templates introduce the list.
_PART, _TOOL, _FIRST_TOOL = KINDS, KINDS + 1, KINDS + 2
_SIZE = KINDS + 3
# Comparing with a member of an enumeration takes its time.
_FRAME_KIND, _TOOL_KIND = int(Kind.FRAME), int(Kind.TOOL)
_TOOLS = re.compile(b"%c+" % _TOOL_KIND)
# A kind is the lowest byte of an item.
_ITEM_BYTES = 8
_LOWEST_BYTE = 0 if sys.byteorder == "little" else _ITEM_BYTES - 1
# What is believed before the first count, by kind of text: what the tokenisers of Qwen and Mistral
# make of the prompts of open agents (.22-.27 tokens a byte), of code (.25-.27), of JSON and shell
# output (.35-.39), and of declared functions (.24 and 24 each), which chat templates introduce
# with 2 to 90.
_PER_BYTE = {Kind.SYSTEM: 0.24, Kind.TOOL: 0.24, Kind.RESULT: 0.3}
_PER_BYTE_ELSE, _PER_SEGMENT, _PER_TOOL, _OPENING = 0.25, 4.0, 24.0, 60.0
# Standard deviations: any tokeniser and template lies within a few of them.
_BYTE_SD, _SEGMENT_SD, _TOOL_SD, _OPENING_SD = 0.08, 5.0, 20.0, 60.0
# Beliefs would drift back to the prior's doubt in so many observations without news.
_DRIFT = 1 / 4000
# What counts differ by though the text is of one kind: a few tokens, and a share of the text.
_NOISE_TOKENS, _NOISE_SHARE = 6.0, 0.05
# Counts that are passed over once one was foreseen with little doubt: of its noise's variance.
_PASSED_OVER, _SURE = 3, 0.25
_SETTLED = 64

Measure = list[float]


def measure(chain: Chain, start: int, end: int) -> Measure:
    """What lies between two blocks of `chain`. Work is proportional to the segments there."""
    found = [0.0] * _SIZE
    if end <= start:
        return found
    text = chain.text_bytes
    stops, kinds, before = _segments(chain, start, end)
    at = text[start - 1] if start else 0
    for stop, kind in zip(stops, kinds, strict=False):
        upto = text[stop - 1]
        found[kind] += upto - at
        at = upto
    ended = len(stops)
    if len(kinds) > ended:
        found[kinds[ended]] += text[end - 1] - at
    tools = kinds.count(_TOOL_KIND, 0, ended)
    found[_PART], found[_TOOL] = ended - tools, tools
    if _TOOL_KIND in kinds:
        # What introduces the list stands before the first of it.
        found[_FIRST_TOOL] = len(_TOOLS.findall(kinds)) - (before == _TOOL_KIND == kinds[0])
    return found


def _segments(chain: Chain, start: int, end: int) -> "tuple[array[int], bytes, int]":
    """Where segments end between two blocks, the kinds of these and of one that goes on behind
    `end`, and, if there are tools among them, the kind of what is before."""
    ends = chain.segment_ends
    first, last = bisect_right(ends, start), bisect_right(ends, end)
    stops = ends[first:last]
    count = len(stops) + (end > (ends[last - 1] if last else 0))
    # Simulated prompts do not say what they consist of.
    kinds = chain.items[first : first + count].tobytes()[_LOWEST_BYTE::_ITEM_BYTES]
    kinds = kinds.ljust(count, b"%c" % _FRAME_KIND)
    if not start or _TOOL_KIND not in kinds:
        return stops, kinds, _FRAME_KIND
    inside = not first or ends[first - 1] != start
    return stops, kinds, kinds[0] if inside else _kind(chain, first - 1)


def _kind(chain: Chain, segment: int) -> int:
    return chain.items[segment] & KIND_MASK if segment < len(chain.items) else _FRAME_KIND


class Slopes:
    """Tokens by what was measured: tokens() tells, learn() adjusts."""

    def __init__(self) -> None:
        deviations = [*[_BYTE_SD] * KINDS, _SEGMENT_SD, _TOOL_SD, _OPENING_SD]
        bytes_of = [_PER_BYTE.get(kind, _PER_BYTE_ELSE) for kind in Kind]
        self.rates = [*bytes_of, _PER_SEGMENT, _PER_TOOL, _OPENING]
        self._most = [deviation * deviation for deviation in deviations]
        self._doubt = [[0.0] * _SIZE for _ in range(_SIZE)]
        self._passed_over = self._learned = 0
        for index, most in enumerate(self._most):
            self._doubt[index][index] = most

    def tokens(self, measured: Sequence[float]) -> float:
        """Never negative."""
        tokens: float = sum(map(mul, measured, self.rates))
        return tokens

    def along(self, chain: Chain, start: int, end: int, tokens: float = 0.0) -> list[float]:
        """Tokens up to the end of each block behind the first `start`, which are `tokens`, as far
        as block `end`. They never fall."""
        found: list[float] = []
        if end <= start:
            return found
        stops, kinds, before = _segments(chain, start, end)
        text, rates, append = chain.text_bytes, self.rates, found.append
        at, upto, ended = text[start - 1] if start else 0, 0, len(stops)
        rate = without = 0.0
        stops.extend([end] * (len(kinds) - ended))
        # A segment at a time: within one, tokens grow evenly.
        for stop, kind in zip(stops, kinds, strict=True):
            rate = rates[kind]
            if kind == _TOOL_KIND != before:
                tokens += rates[_FIRST_TOOL]
            without = tokens - at * rate
            for upto in text[start:stop]:
                append(without + rate * upto)
            tokens = found[-1] = found[-1] + rates[_TOOL if kind == _TOOL_KIND else _PART]
            at, start, before = upto, stop, kind
        if len(kinds) > ended:
            # It goes on.
            found[-1] = without + rate * upto
        return found

    def reach(
        self, chain: Chain, start: int, end: int, tokens: float, limit: float
    ) -> tuple[int, float]:
        """Where along() would come below `limit`, had it come to `tokens` at the end of block
        `end`, which are no fewer: behind how many blocks, at least `start`, and the tokens there.
        From the end on, for little of a run is cut off at a time."""
        stops, kinds, before = _segments(chain, start, end)
        text, rates, begins = chain.text_bytes, self.rates, [start, *stops]
        frames = [rates[_PART]] * KINDS
        frames[_TOOL_KIND] = rates[_TOOL]
        if len(kinds) > len(stops):
            # It goes on.
            tokens += frames[kinds[-1]]
        upto = text[end - 1] if end else 0
        for index in range(len(kinds) - 1, -1, -1):
            kind, begin = kinds[index], begins[index]
            at, rate = text[begin - 1] if begin else 0, rates[kind]
            # Within a segment tokens grow evenly.
            without = tokens - frames[kind] - rate * upto
            tokens = without + rate * at
            if kind == _TOOL_KIND and (kinds[index - 1] if index else before) != _TOOL_KIND:
                tokens -= rates[_FIRST_TOOL]
            if tokens < limit:
                end = bisect_left(
                    text, limit, begin, end - 1, key=lambda each: without + rate * each
                )
                return end, without + rate * text[end - 1] if end > begin else tokens
            end, upto = begin, at
        return start, tokens

    def passes_over(self) -> bool:
        """Whether the next count may go unlearned: the last one told of what was well known."""
        if not self._passed_over:
            return False
        self._passed_over -= 1
        return True

    @property
    def settled(self) -> bool:
        """Whether enough was learned that what was estimated need not be estimated again."""
        return self._learned >= _SETTLED

    def learn(self, measured: Sequence[float], tokens: float, off: float = 0.0) -> None:
        """So many tokens were reported for this stretch, give or take `off`."""
        self._learned += 1
        doubt, rates = self._doubt, self.rates
        # What is doubted of one rate is doubted of the other as well: rows are columns.
        shared = [sum(map(mul, row, measured)) for row in doubt]
        noise = _NOISE_TOKENS + _NOISE_SHARE * max(tokens, 0.0) + off
        unknown = sum(map(mul, shared, measured))
        total = noise * noise + unknown
        self._passed_over = _PASSED_OVER if unknown < _SURE * noise * noise else 0
        error = tokens - sum(map(mul, rates, measured))
        for index, mine in enumerate(shared):
            row = doubt[index]
            if mine:
                gain = mine / total
                # No text has fewer tokens than none, whatever odd figures say.
                rates[index] = max(0.0, rates[index] + gain * error)
                row[:] = map(sub, row, map(gain.__mul__, shared))
            if row[index] < self._most[index]:
                row[index] += _DRIFT * self._most[index]
