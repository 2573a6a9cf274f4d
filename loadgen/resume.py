"""What an interrupted run has behind it, from its journal: every request ended exactly once.

The journal has a line for a request as soon as it has ended, so what was in flight when the run
died is not in it and is sent again. Requests cut off at the end of a run count as not sent.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import orjson
import xxhash

from loadgen.sample import Sample, read_journal
from loadgen.traces.model import Trace

JOURNAL = "requests.jsonl"
RECORD = "run.json"
# Settings that say what is sent, by how many, and how it is counted; a run goes on only with the
# same, or its figures would be of two.
_FIXED = (
    "seed", "timing", "warm_prefix_pct", "output_tokens_max", "engine_extras", "dialect",
    "arrivals", "trace_digest", "users", "faults", "limits", "engine_block_size",
)  # fmt: skip


class ResumeError(ValueError):
    """The run cannot be gone on with; the message says why."""


@dataclass(frozen=True, slots=True)
class Past:
    """`samples` that ended, in order, and how long the run had gone on, in real seconds; `model`
    is who answered, where that is known."""

    samples: Sequence[Sample] = ()
    lasted_s: float = 0.0
    done: Mapping[str, frozenset[tuple[str, int]]] = field(default_factory=dict)
    model: str | None = None

    @classmethod
    def of(cls, journal: Sequence[Sample], model: str | None = None) -> "Past":
        ended = accounted(journal)
        done: defaultdict[str, set[tuple[str, int]]] = defaultdict(set)
        for sample in ended:
            done[sample.conversation].add((sample.agent, sample.turn))
        lasted_s = max((sample.t_end or sample.t_intended for sample in journal), default=0.0)
        turns = {name: frozenset(turns) for name, turns in done.items()}
        return cls(ended, lasted_s, turns, model)

    def plays(self, traces: Sequence[Trace]) -> dict[tuple[str, int], bool]:
        """Plays that were begun, as (trace, play number), and whether nothing of them is left."""
        counts = {trace.id: trace.request_count for trace in traces}
        begun = {}
        for sample in self.samples:
            play = int(sample.conversation.rpartition("-")[2])
            left = counts[sample.trace] - len(self.done[sample.conversation])
            begun[sample.trace, play] = left <= 0
        return begun


def accounted(journal: Sequence[Sample]) -> list[Sample]:
    """The samples that ended; what was cut off is not among them, whether sent again or not."""
    return [sample for sample in journal if sample.error != "cancelled"]


def read_past(output: Path, settings: Mapping[str, object]) -> Past:
    """Of the run under `output`, which must have sent what `settings` would. Cuts the journal
    after its last whole line, so that it can be continued."""
    try:
        record = orjson.loads((output / RECORD).read_bytes())
        journal = output / JOURNAL
        whole = journal.read_bytes().rfind(b"\n") + 1
        before = record["settings"]
        if not isinstance(before, dict):
            raise TypeError("settings are no object")
    except (OSError, orjson.JSONDecodeError, LookupError, TypeError) as error:
        raise ResumeError(f"{output} holds no run to go on with: {error}") from error
    now = orjson.loads(orjson.dumps(settings))
    changed = [name for name in _FIXED if before.get(name) != now.get(name)]
    if changed:
        raise ResumeError(f"{output} was run with another {', '.join(changed)}")
    with journal.open("rb+") as file:
        file.truncate(whole)
    try:
        samples = read_journal(journal)
    except ValueError as error:
        raise ResumeError(f"{journal} is damaged: {error}") from error
    for sample in samples:  # on disk, and the largest part of them
        sample.chunks = []
    return Past.of(samples, before.get("model"))


def trace_digest(traces: Sequence[Trace]) -> str:
    """Changes with the traces played or with their sizes."""
    digest = xxhash.xxh3_64()
    for trace in sorted(traces, key=lambda trace: trace.id):
        sizes = [turn.input_tokens for turn in trace.turns]
        digest.update(f"{trace.id} {trace.request_count} {sizes}\n".encode())
    return digest.hexdigest()
