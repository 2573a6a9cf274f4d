"""How many tokens a stretch of a prompt has, by the text in it: who wrote it and how many parts.

A schema costs more tokens a byte than prose, and a template wraps each part in some of its own. The
rates are learned per model from the token counts that engines report: a Kalman filter whose beliefs
start at a stated prior and drift slowly, so that a change of clients is followed.
"""

from bisect import bisect_left
from collections.abc import Iterator, Sequence

from kvproxy.core.items import KINDS, Kind, kind_bits
from kvproxy.core.types import Chain

# What tokens come from: text bytes by kind of segment, how many segments are no tools, how many
# are, and whether the first of those is among them: templates introduce the list.
_PART, _TOOL, _FIRST_TOOL = (KINDS,), (KINDS + 1,), (KINDS + 1, KINDS + 2)
_SIZE = KINDS + 3
# Comparing with a member of an enumeration takes its time.
_TOOL_KIND = int(Kind.TOOL)
_PER_BYTE, _PER_SEGMENT = 0.25, 4.0
# Standard deviations of the prior: any tokeniser lies within them.
_BYTE_SD, _SEGMENT_SD, _OPENING_SD = 0.08, 5.0, 60.0
# Beliefs would drift back to the prior's doubt in so many observations without news.
_DRIFT = 1 / 4000
# What counts differ by though the text is of one kind: a few tokens, and a share of the text.
_NOISE_TOKENS, _NOISE_SHARE = 6.0, 0.05

Measure = list[float]


def measure(chain: Chain, start: int, end: int) -> Measure:
    """What lies between two blocks of `chain`. Work is proportional to the segments there."""
    found = [0.0] * _SIZE
    if end <= start:
        return found
    text, ended = chain.text_bytes, chain.segments
    at, segment = (text[start - 1], ended[start - 1]) if start else (0, 0)
    last, before = ended[end - 1], _kind(chain, segment - 1) if segment else Kind.FRAME
    parts = tools = openings = 0
    while segment < last:
        start = bisect_left(ended, segment + 1, start, end)
        kind = _kind(chain, segment)
        until = text[start]
        found[kind] += until - at
        if kind == _TOOL_KIND:
            tools += 1
            openings += before != _TOOL_KIND
        else:
            parts += 1
        at, before = until, kind
        segment += 1
    found[_PART[0]], found[_FIRST_TOOL[0]], found[_FIRST_TOOL[1]] = parts, tools, openings
    if text[end - 1] > at:
        found[_kind(chain, segment)] += text[end - 1] - at
    return found


def _kind(chain: Chain, segment: int) -> int:
    """Simulated prompts do not say what they consist of."""
    return kind_bits(chain.items[segment]) if segment < len(chain.items) else Kind.FRAME


def _wrapping(chain: Chain, segment: int, kind: int) -> tuple[int, ...]:
    """What counts a segment that has ended."""
    if kind != _TOOL_KIND:
        return _PART
    first = not segment or _kind(chain, segment - 1) != _TOOL_KIND
    return _FIRST_TOOL if first else _TOOL


class Slopes:
    """Tokens by what was measured: tokens() tells, learn() adjusts."""

    def __init__(self) -> None:
        deviations = [*[_BYTE_SD] * KINDS, _SEGMENT_SD, _SEGMENT_SD, _OPENING_SD]
        self.rates = [*[_PER_BYTE] * KINDS, _PER_SEGMENT, _PER_SEGMENT, 0.0]
        self._most = [deviation * deviation for deviation in deviations]
        self._doubt = [[0.0] * _SIZE for _ in range(_SIZE)]
        for index, most in enumerate(self._most):
            self._doubt[index][index] = most

    def tokens(self, measured: Sequence[float]) -> float:
        """Never negative."""
        return sum(
            amount * rate for amount, rate in zip(measured, self.rates, strict=True) if amount
        )

    def along(self, chain: Chain, start: int) -> Iterator[float]:
        """Tokens of each block behind the first `start`."""
        at, segment = (chain.text_bytes[start - 1], chain.segments[start - 1]) if start else (0, 0)
        kind, rates = _kind(chain, segment), self.rates
        for text, ended in zip(chain.text_bytes[start:], chain.segments[start:], strict=True):
            tokens = (text - at) * rates[kind]
            if ended != segment:
                tokens += sum(rates[index] for index in _wrapping(chain, segment, kind))
                segment = ended
                kind = _kind(chain, segment)
            yield tokens
            at = text

    def learn(self, measured: Sequence[float], tokens: float) -> None:
        """So many tokens were reported for this stretch."""
        there = [(index, amount) for index, amount in enumerate(measured) if amount]
        doubt = self._doubt
        # What is doubted of one rate is doubted of the other as well: rows are columns.
        shared = [0.0] * _SIZE
        for index, amount in there:
            shared = [sum_ + amount * own for sum_, own in zip(shared, doubt[index], strict=True)]
        expected = sum(self.rates[index] * amount for index, amount in there)
        noise = _NOISE_TOKENS + _NOISE_SHARE * max(tokens, 0.0)
        total = noise * noise + sum(shared[index] * amount for index, amount in there)
        error = tokens - expected
        for index, mine in enumerate(shared):
            if mine:
                gain = mine / total
                # No text has fewer tokens than none, whatever odd figures say.
                self.rates[index] = max(0.0, self.rates[index] + gain * error)
                row = doubt[index]
                row[:] = [own - gain * theirs for own, theirs in zip(row, shared, strict=True)]
            if doubt[index][index] < self._most[index]:
                doubt[index][index] += _DRIFT * self._most[index]
