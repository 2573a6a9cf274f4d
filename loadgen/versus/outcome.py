"""What a comparison found, as a table for people and as JSON."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace

from rich.table import Table
from rich.text import Text

from loadgen.report import pct, seconds
from loadgen.run_values import RunResult
from loadgen.sample import Sample
from loadgen.simulate.bounds import Bounds
from loadgen.simulate.run import jain
from loadgen.stats import arm, quantile, summarise
from loadgen.versus.pairs import (
    CONVERSATIONS_MIN,
    Difference,
    by_conversation,
    difference,
    hit_rate,
    mean,
    p95,
    stretches,
)


@dataclass(frozen=True, slots=True)
class Found:
    """One arm against the first, over the `compared` requests that both answered. `stretch` is per
    conversation against the best arm; `jain` is 1 when all conversations are stretched alike.
    `attained` is the reported hit rate over that of a cache that never forgets; `pooled_lru` and
    `offline_min` are those of one LRU as large as all caches together, and of that memory with
    foresight, where its size is known."""

    name: str
    summary: dict[str, object]
    valid: bool
    compared: int
    differences: dict[str, Difference | None]
    stretch_p50: float | None
    stretch_max: float | None
    jain: float | None
    attained: float | None
    pooled_lru: float | None = None
    offline_min: float | None = None

    def of(self, bound: float | None) -> float | None:
        """The reported hit rate as a share of a bound."""
        reported = self.summary["hit_rate_reported"]
        return reported / bound if isinstance(reported, float) and bound else None

    def as_json(self) -> dict[str, object]:
        told = {name: diff and asdict(diff) for name, diff in self.differences.items()}
        return arm(self.name, self.summary) | {
            "valid": self.valid, "compared": self.compared, "differences": told,
            "stretch_p50": self.stretch_p50, "stretch_max": self.stretch_max,
            "jain_fairness": self.jain, "attained": self.attained,
            "hit_rate_pooled_lru": self.pooled_lru, "hit_rate_offline_min": self.offline_min,
            "attained_of_pooled_lru": self.of(self.pooled_lru),
            "attained_of_offline_min": self.of(self.offline_min),
        }  # fmt: skip


Attainable = Callable[[Sequence[Sample]], Bounds | None]


def judge(
    results: Mapping[str, Sequence[RunResult]],
    block_size: int,
    attainable: Attainable | None = None,
) -> list[Found]:
    """The first arm is what the others are held against. `attainable` are the bounds of one
    run's samples."""
    samples = {name: _samples(runs) for name, runs in results.items()}
    base = next(iter(samples.values()))
    stretched = stretches(samples)
    found = [
        _found(name, runs, base, stretched[name], block_size) for name, runs in results.items()
    ]
    if attainable is None:
        return found
    return [_bounded(one, results[one.name], attainable) for one in found]


def _bounded(found: Found, runs: Sequence[RunResult], attainable: Attainable) -> Found:
    """With the bounds of all runs together, in the engines' blocks: those of the traces are held
    against the same bound of either kind."""
    total = infinite = pooled = least = 0.0
    for run in runs:
        bounds = attainable(run.samples)
        if bounds is None:
            return found
        tokens = sum(sample.prompt_tokens or 0 for sample in run.samples)
        total += tokens
        infinite += tokens * bounds.infinite
        pooled += tokens * bounds.pooled_lru
        least += tokens * bounds.offline_min
    exact = found.summary["hit_rate_bound"]
    if not infinite or not isinstance(exact, float):
        return found
    return replace(
        found, pooled_lru=exact * pooled / infinite, offline_min=exact * least / infinite
    )


def table(found: Sequence[Found]) -> Table:
    shown = Table(title="The same conversations", title_justify="left")
    shown.add_column("")
    for one in found:
        shown.add_column(one.name if one.valid else f"{one.name} [red]INVALID[/red]")
    rows = {
        "requests / failed": [f"{f.summary['requests']} / {_failed(f)}" for f in found],
        **_left_out_rows(found),
        "TTFT mean": [_told(f, "ttft_mean_s", seconds) for f in found],
        "TTFT p95": [_told(f, "ttft_p95_s", seconds) for f in found],
        "e2e mean": [_told(f, "e2e_mean_s", seconds) for f in found],
        "hit rate, mean of requests": [_told(f, "hit_rate_mean", pct) for f in found],
        "hit rate of attainable": [pct(f.attained) for f in found],
        **_bounds_rows(found),
        "stretch p50 / worst": [
            f"{_times(f.stretch_p50)} / {_times(f.stretch_max)}" for f in found
        ],
        "fairness (Jain)": ["–" if f.jain is None else f"{f.jain:.3f}" for f in found],
    }
    for name, cells in rows.items():
        shown.add_row(name, *map(Text, cells))
    first = found[0].name
    shown.caption = f"\\[95 % interval of the difference from {first}, paired]; ? = may be chance"
    if any(
        d and d.conversations < CONVERSATIONS_MIN for f in found for d in f.differences.values()
    ):
        shown.caption += f", as with fewer than {CONVERSATIONS_MIN} conversations all may"
    return shown


def _left_out_rows(found: Sequence[Found]) -> dict[str, list[str]]:
    """What the differences do not see, where there is any: requests that an arm did not answer,
    and answers that were shorter than asked."""
    rows = {}
    if any(f.compared < int(str(f.summary["requests"])) for f in found):
        rows["compared: both answered"] = [str(f.compared) for f in found]
    silent = [_of(f, "silent", "beyond_p95") for f in found]
    if any(silent):
        rows["silent beyond p95"] = [str(count) for count in silent]
    exact = [_of(f, "answers", "exact") for f in found]
    if any(share is not None and share != 1 for share in exact):
        rows["answers as long as asked"] = [pct(share) for share in exact]
    return rows


def _of(found: Found, part: str, name: str) -> object:
    figures = found.summary[part]
    assert isinstance(figures, Mapping)
    return figures[name]


def _bounds_rows(found: Sequence[Found]) -> dict[str, list[str]]:
    if all(f.pooled_lru is None for f in found):
        return {}
    return {
        "of one pooled LRU": [f"{pct(f.of(f.pooled_lru))} of {pct(f.pooled_lru)}" for f in found],
        "of it with foresight": [
            f"{pct(f.of(f.offline_min))} of {pct(f.offline_min)}" for f in found
        ],
    }


def _found(
    name: str,
    runs: Sequence[RunResult],
    base: Sequence[Sample],
    stretch: list[float],
    block_size: int,
) -> Found:
    ours = _samples(runs)
    summary = summarise(ours, block_size)
    ttft = by_conversation(base, ours, lambda sample: sample.ttft_s)
    e2e = by_conversation(base, ours, lambda sample: sample.e2e_s)
    # An engine leaves the field out when nothing was cached; one that never has it says nothing.
    told = all(any(s.cached_tokens is not None for s in side) for side in (base, ours))
    hits = by_conversation(base, ours, hit_rate) if told else {}
    reported, bound = summary["hit_rate_reported"], summary["hit_rate_bound"]
    both = isinstance(reported, float) and isinstance(bound, float) and bound > 0
    return Found(
        name,
        summary,
        all(run.valid for run in runs),
        sum(map(len, ttft.values())),
        {
            "ttft_mean_s": difference(ttft, mean),
            "ttft_p95_s": difference(ttft, p95),
            "e2e_mean_s": difference(e2e, mean),
            "hit_rate_mean": difference(hits, mean),
        },
        stretch_p50=quantile(sorted(stretch), 0.5) if stretch else None,
        stretch_max=max(stretch, default=None),
        jain=jain([1 / value for value in stretch]) if stretch else None,
        attained=reported / bound if both else None,  # type: ignore[operator]
    )


def _samples(runs: Sequence[RunResult]) -> list[Sample]:
    return [sample for run in runs for sample in run.samples]


def _told(found: Found, figure: str, form: Callable[[object], str]) -> str:
    """The arm's figure, and the difference where there is one to speak of."""
    apart = found.differences[figure]
    if apart is None:
        return "–"
    if apart.low == apart.high == 0:
        return form(apart.arm)
    mark = "" if apart.sure else "?"
    return f"{form(apart.arm)} [{_signed(apart.low, form)} … {_signed(apart.high, form)}]{mark}"


def _signed(value: float, form: Callable[[object], str]) -> str:
    return f"{'-' if value < 0 else '+'}{form(abs(value))}"


def _failed(found: Found) -> int:
    errors = found.summary["errors"]
    assert isinstance(errors, dict)
    return sum(errors.values())


def _times(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}x"
