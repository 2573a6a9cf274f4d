"""Whether a process's memory is flat: its slopes, how sure they are, and what is too much.

Two are judged. What is in use (`live`: bytes that malloc and CPython gave out and did not get back)
is where a leak is, and nothing else grows it once the bounds are full. What is resident shows what
else costs: holes in the allocators, pages of files.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import NamedTuple

# The first part fills what is bounded; the rest is judged.
WARM_SHARE = 0.5
# The bounds are full after some thousand answers, and the allocators' pools have taken their shape
# after more.
LIVE_WARM_ANSWERS, RESIDENT_WARM_ANSWERS = 3_000, 9_000
# The least that a leaking answer leaves is an object: the smallest that holds anything has 48
# bytes, and a place in what keeps it 8.
LEAK_BYTES = 56
# Once more than that, an hour at 50 answers a second.
FLAT_MIB_PER_H = 20.0
# Samples of one moment are alike, so stretches are compared; of shorter runs nothing is said.
_STRETCHES = 10
_STRETCH_S_MIN = 12.0
# Of Student's distribution for 8 degrees of freedom, 95 % between the two.
_T = 2.306

Sample = tuple[float, float]


class Line(NamedTuple):
    """Least squares: the rise of one a unit of the other, and its standard error."""

    rise: float
    error: float


@dataclass(frozen=True)
class Slope:
    """`low` and `high` are the ends of the 95 % interval, in MiB an hour like the slope itself;
    `answer_bytes` and `answer_high` are slope and upper end by what was answered meanwhile.
    `lasted` tells whether the run was long enough to judge."""

    first_mib: float
    last_mib: float
    mib_per_h: float
    low: float
    high: float
    answer_bytes: float
    answer_high: float
    lasted: bool

    def __str__(self) -> str:
        return (
            f"{self.first_mib:.1f} -> {self.last_mib:.1f} MiB; after the first {WARM_SHARE:.0%} "
            f"{self.mib_per_h:+.1f} MiB/h, 95 % of {self.low:+.1f} to {self.high:+.1f}; "
            f"{self.answer_bytes:+.0f} bytes an answer, at most {self.answer_high:+.0f}"
        )


@dataclass(frozen=True)
class Verdict:
    """None where the run was too short to tell, or had too few answers."""

    live: Slope
    resident: Slope
    answers: int

    @property
    def leaks(self) -> bool | None:
        enough = self.answers * WARM_SHARE >= LIVE_WARM_ANSWERS
        return self.live.answer_high > LEAK_BYTES if self.live.lasted and enough else None

    @property
    def grows(self) -> bool | None:
        enough = self.answers * WARM_SHARE >= RESIDENT_WARM_ANSWERS
        return self.resident.high > FLAT_MIB_PER_H if self.resident.lasted and enough else None

    def __str__(self) -> str:
        short = "not judged: too short a run"
        leaks = {True: "LEAKS", False: "no leak", None: short}[self.leaks]
        grows = {True: "NOT FLAT", False: "FLAT", None: short}[self.grows]
        return (
            f"in use {self.live}\n  {leaks} (bound: {LEAK_BYTES} bytes an answer, upper end)\n"
            f"resident {self.resident}\n  {grows} (bound: {FLAT_MIB_PER_H:g} MiB/h, upper end)"
        )


def slope(samples: Sequence[Sample], answers: int) -> Slope:
    """`samples` are (seconds, MiB) of the whole run, and `answers` how many that had."""
    late = samples[int(len(samples) * WARM_SHARE) :]
    size = max(1, len(late) // _STRETCHES)
    stretches = [late[at : at + size] for at in range(0, size * _STRETCHES, size)]
    points = [(fmean(t for t, _ in each), fmean(m for _, m in each)) for each in stretches if each]
    line = fitted(points)
    rise, half = line.rise * 3600, _T * line.error * 3600
    lasted_s = samples[-1][0] - samples[0][0]
    lasted = len(points) == _STRETCHES and lasted_s * WARM_SHARE >= _STRETCHES * _STRETCH_S_MIN
    each = lasted_s / 3600 / answers * 2**20 if answers else 0.0
    return Slope(
        samples[0][1],
        samples[-1][1],
        rise,
        rise - half,
        rise + half,
        rise * each,
        (rise + half) * each,
        lasted,
    )


def fitted(points: Sequence[Sample]) -> Line:
    mean_x, mean_y = fmean(x for x, _ in points), fmean(y for _, y in points)
    spread = sum((x - mean_x) ** 2 for x, _ in points)
    if not spread:
        return Line(0.0, math.inf)
    rise = sum((x - mean_x) * (y - mean_y) for x, y in points) / spread
    left = sum((y - mean_y - rise * (x - mean_x)) ** 2 for x, y in points)
    free = len(points) - 2
    return Line(rise, math.sqrt(left / free / spread) if free > 0 else math.inf)
