"""Whether a process's memory is flat: its slope, how sure that is, and what is too much."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import NamedTuple

# The first part fills what is bounded; the rest is judged.
WARM_SHARE = 0.5
# Caches, the allocator's pools and pages of code have taken their shape after so many answers.
_WARM_ANSWERS = 9_000
# More than this is a leak: at 50 answers a second 116 bytes of each, which is one small object.
# Less may be the allocators' pools, which get holes for a while: up to 16 was seen where there were
# fewer live objects than before (tests/soak/census.py).
FLAT_MIB_PER_H = 20.0
# Samples a second apart are alike, so stretches are compared; of shorter runs nothing is said.
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
    `answer_bytes` is the slope by what was answered meanwhile. `flat` is None where the run was
    too short to tell, or had too few answers."""

    first_mib: float
    last_mib: float
    mib_per_h: float
    low: float
    high: float
    answer_bytes: float
    flat: bool | None

    def __str__(self) -> str:
        verdict = {True: "FLAT", False: "NOT FLAT", None: "not judged: too short a run"}[self.flat]
        return (
            f"memory {self.first_mib:.1f} -> {self.last_mib:.1f} MiB; after the first "
            f"{WARM_SHARE:.0%} {self.mib_per_h:+.1f} MiB/h, 95 % of {self.low:+.1f} to "
            f"{self.high:+.1f}, {self.answer_bytes:+.0f} bytes an answer\n"
            f"memory is {verdict}: at most {FLAT_MIB_PER_H:g} MiB/h, with the interval's upper end"
        )


def slope(samples: Sequence[Sample], answers: int) -> Slope:
    """`samples` are (seconds, MiB) of the whole run, and `answers` how many that had."""
    late = samples[int(len(samples) * WARM_SHARE) :]
    size = max(1, len(late) // _STRETCHES)
    stretches = [late[at : at + size] for at in range(0, size * _STRETCHES, size)]
    points = [(fmean(t for t, _ in each), fmean(m for _, m in each)) for each in stretches if each]
    line = fitted(points)
    rise, half = line.rise * 3600, _T * line.error * 3600
    long_enough = len(points) == _STRETCHES and _width_s(stretches[0]) >= _STRETCH_S_MIN
    long_enough &= answers * WARM_SHARE >= _WARM_ANSWERS
    lasted_s = samples[-1][0] - samples[0][0]
    each = line.rise * lasted_s / answers * 2**20 if answers else 0.0
    flat = rise + half <= FLAT_MIB_PER_H if long_enough else None
    return Slope(samples[0][1], samples[-1][1], rise, rise - half, rise + half, each, flat)


def fitted(points: Sequence[Sample]) -> Line:
    mean_x, mean_y = fmean(x for x, _ in points), fmean(y for _, y in points)
    spread = sum((x - mean_x) ** 2 for x, _ in points)
    if not spread:
        return Line(0.0, math.inf)
    rise = sum((x - mean_x) * (y - mean_y) for x, y in points) / spread
    left = sum((y - mean_y - rise * (x - mean_x)) ** 2 for x, y in points)
    free = len(points) - 2
    return Line(rise, math.sqrt(left / free / spread) if free > 0 else math.inf)


def _width_s(samples: Sequence[Sample]) -> float:
    return samples[-1][0] - samples[0][0]
