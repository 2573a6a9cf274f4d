"""The laws that predictions use, fitted to measured times, and how far they are off.

Relative errors are made small, since a prediction is as useful at 20 ms as at 20 s. No term may be
negative: one that would be is left out.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import median

# Seconds against the columns that explain them.
Point = tuple[float, tuple[float, ...]]


@dataclass(frozen=True, slots=True)
class Residuals:
    """(predicted - measured) / measured, in the order of the points."""

    each: tuple[float, ...]

    @property
    def median_abs(self) -> float:
        return median(map(abs, self.each))

    @property
    def max_abs(self) -> float:
        return max(map(abs, self.each))


@dataclass(frozen=True, slots=True)
class PrefillLaw:
    """Seconds of one step that computes `new` tokens after `context` cached ones:
    base_s + new x (s_per_tok + s_per_tok2 x mean context), the mean over the new tokens."""

    base_s: float
    s_per_tok: float
    s_per_tok2: float

    def step_s(self, new: float, context: float) -> float:
        return self.base_s + new * (self.s_per_tok + self.s_per_tok2 * (context + new / 2))

    def prompt_s(self, new: int, context: int, chunk: int) -> float:
        """Of `new` tokens in steps of at most `chunk`."""
        steps = -(-new // chunk)
        return self.step_s(new, context) + (steps - 1) * self.base_s


@dataclass(frozen=True, slots=True)
class DecodeLaw:
    """Seconds of one step for `batch` sequences: step_s + seq_s x batch + kv_s_per_tok x tokens
    of all their contexts."""

    step_s: float
    seq_s: float
    kv_s_per_tok: float

    def seconds(self, batch: int, context: float) -> float:
        return self.step_s + batch * (self.seq_s + self.kv_s_per_tok * context)


@dataclass(frozen=True, slots=True)
class LoadLaw:
    """Seconds to bring `tokens` from the host: start_s + tokens x s_per_tok."""

    start_s: float
    s_per_tok: float

    def seconds(self, tokens: float) -> float:
        return self.start_s + tokens * self.s_per_tok


def fit_prefill(points: Sequence[tuple[int, int, float]]) -> PrefillLaw:
    """`points` are (new, context, seconds)."""
    rows = [(s, (1.0, float(new), new * (context + new / 2))) for new, context, s in points]
    return PrefillLaw(*least_squares(rows, needed=1))


def fit_decode(points: Sequence[tuple[int, int, float]]) -> DecodeLaw:
    """`points` are (batch, context, seconds)."""
    rows = [(s, (1.0, float(batch), float(batch * context))) for batch, context, s in points]
    return DecodeLaw(*least_squares(rows, needed=0))


def fit_load(points: Sequence[tuple[int, float]]) -> LoadLaw:
    """`points` are (tokens, seconds)."""
    rows = [(s, (1.0, float(tokens))) for tokens, s in points]
    return LoadLaw(*least_squares(rows, needed=1))


def residuals(pairs: Sequence[tuple[float, float]]) -> Residuals:
    """`pairs` are (predicted, measured)."""
    return Residuals(tuple((predicted - measured) / measured for predicted, measured in pairs))


def least_squares(points: Sequence[Point], needed: int) -> list[float]:
    """Coefficients with the least sum of squared relative errors, one for each column: positive
    for the column `needed`, which must hold positive numbers, none negative for the others."""
    columns = len(points[0][1])
    rows = [[value / seconds for value in columns_] for seconds, columns_ in points]
    best: tuple[float, list[float]] | None = None
    # With three columns every choice of terms can be tried, and the best one is exact.
    for size in range(columns, 0, -1):
        for chosen in combinations(range(columns), size):
            if needed not in chosen:
                continue
            found = _solve([[row[c] for c in chosen] for row in rows])
            if found is None or min(found) < 0 or not found[chosen.index(needed)]:
                continue
            full = [0.0] * columns
            for column, value in zip(chosen, found, strict=True):
                full[column] = value
            error = sum((sum(map(_product, row, full)) - 1.0) ** 2 for row in rows)
            if best is None or error < best[0]:
                best = (error, full)
    assert best is not None, "one column of positive numbers always fits"
    return best[1]


def _product(a: float, b: float) -> float:
    return a * b


def _solve(rows: Sequence[Sequence[float]]) -> list[float] | None:
    """Least squares of rows x = 1 by the normal equations, scaled; None if they are singular."""
    size = len(rows[0])
    scales = [max(abs(row[c]) for row in rows) or 1.0 for c in range(size)]
    scaled = [[value / scale for value, scale in zip(row, scales, strict=True)] for row in rows]
    system = [
        [sum(row[i] * row[j] for row in scaled) for j in range(size)] + [sum(r[i] for r in scaled)]
        for i in range(size)
    ]
    for pivot in range(size):
        largest = max(range(pivot, size), key=lambda row: abs(system[row][pivot]))
        system[pivot], system[largest] = system[largest], system[pivot]
        if abs(system[pivot][pivot]) < 1e-12:
            return None
        for row in range(size):
            if row != pivot:
                factor = system[row][pivot] / system[pivot][pivot]
                system[row] = [
                    a - factor * b for a, b in zip(system[row], system[pivot], strict=True)
                ]
    return [system[i][size] / system[i][i] / scales[i] for i in range(size)]
