"""When computing prompts apart pays: whole requests, split ones, and kvproxy's choice between them.

All arms have as many replicas. `split` gives some of them to prefill alone and sends every prompt
that misses much there; `auto` leaves every replica both and lets seconds decide each request.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import product

from rich.table import Table

from kvproxy.core.disagg.choice import Mode, Terms
from kvproxy.core.disagg.connectors import Connector
from loadgen.simulate.run import Arm, Setup, Split, Summary, simulate, summarise
from loadgen.traces.model import Trace

CONVERSATIONS = (32, 64, 128)
REPLICAS = (4, 8)
# Columns of the table, and whether they are shown in milliseconds.
_SHOWN = (("ttft_p95_s", 1), ("itl_p99_s", 1000), ("e2e_mean_s", 1), ("requests_per_s", 1))


@dataclass(frozen=True, slots=True)
class Cell:
    """One load on one fleet; arms by name: whole, split N, auto."""

    setup: Setup
    arms: dict[str, Summary]

    @property
    def auto_over_best(self) -> float:
        """Mean time to the end of an answer: the automatic choice over the best fixed one."""
        best = min(arm.e2e_mean_s for name, arm in self.arms.items() if name != "auto")
        return self.arms["auto"].e2e_mean_s / best

    def as_json(self) -> dict[str, object]:
        return {
            "conversations": self.setup.conversations,
            "replicas": self.setup.replicas,
            "hbm_tokens": self.setup.limits.hbm_tokens,
            "transfer_tok_s": self.setup.rates.transfer_tok_s,
            "auto_over_best": self.auto_over_best,
            "arms": {name: asdict(arm) for name, arm in self.arms.items()},
        }


def run_disagg(
    traces: Sequence[Trace],
    base: Setup,
    conversations: Sequence[int],
    replicas: Sequence[int],
    tell: Callable[[str], None],
) -> Iterator[Cell]:
    """Cells in order, each as soon as it is done."""
    for users, count in product(conversations, replicas):
        setup = replace(base, conversations=users, replicas=count)
        arms = {}
        for name, split in _arms(count).items():
            tell(f"{users} conversations, {count} replicas, {name}")
            played = replace(setup, disagg=split)
            arms[name] = summarise(simulate(traces, played, Arm.named("seconds")), played)
        yield Cell(setup, arms)


def _arms(replicas: int) -> dict[str, Split | None]:
    always = Terms(Connector.NIXL, Mode.ALWAYS)
    shares = sorted({max(1, replicas // 4), max(1, replicas // 2)} - {replicas})
    return {
        "whole": None,
        **{f"split {count}": Split(always, count) for count in shares},
        "auto": Split(Terms(Connector.NIXL)),
    }


def disagg_table(cells: Sequence[Cell]) -> Table:
    """TTFT p95 in s / ITL p99 in ms / mean time to the end of an answer in s / requests per s."""
    title = "TTFT p95 s / ITL p99 ms / mean answer s / requests per s"
    table = Table(title=title)
    for column in ("N", "R", "whole", "split ¼", "split ½", "auto", "auto / best"):
        table.add_column(column, justify="right")
    for cell in cells:
        split = [_figures(arm) for name, arm in cell.arms.items() if name.startswith("split")]
        table.add_row(
            str(cell.setup.conversations),
            str(cell.setup.replicas),
            _figures(cell.arms["whole"]),
            *([*split, "–"])[:2],
            _figures(cell.arms["auto"]),
            f"{cell.auto_over_best:.2f}",
        )
    return table


def _figures(arm: Summary) -> str:
    shown = (getattr(arm, name) * scale for name, scale in _SHOWN)
    ttft, itl, answer, rate = shown
    return f"{ttft:.1f} / {itl:.0f} / {answer:.1f} / {rate:.2f}"
