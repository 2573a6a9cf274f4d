"""user_lifecycle.csv: what became of every conversation, with kv-cache-tester's column names.

Taken from the samples, so that a resumed run and one of several workers tell it all.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence

from loadgen.sample import Sample
from loadgen.traces.model import Trace

COLUMNS = ("timestamp", "user_id", "event_type", "trace_id", "details")

Row = dict[str, object]


def lifecycle(samples: Sequence[Sample], turns: Mapping[str, int], time_scale: float) -> list[Row]:
    """A row when a conversation, or a sub-agent of one, began and one when it ended, in order of
    time, engine seconds. `turns` as `turns_of` says: `completed` means that the last of them was
    asked, `truncated` that the run ended before."""
    lanes: dict[tuple[str, str], list[Sample]] = defaultdict(list)
    for sample in samples:
        lanes[sample.conversation, sample.agent].append(sample)
    rows = [row for lane in lanes.values() for row in _lane(lane, turns, time_scale)]
    return sorted(rows, key=lambda row: float(str(row["timestamp"])))


def turns_of(traces: Iterable[Trace]) -> dict[str, int]:
    """How many requests each trace has, and each sub-agent under trace:agent."""
    turns: dict[str, int] = {}
    for trace in traces:
        turns[trace.id] = len(trace.turns)
        turns |= {f"{trace.id}:{agent.agent_id}": len(agent.turns) for agent in trace.sub_agents}
    return turns


def _lane(lane: Sequence[Sample], turns: Mapping[str, int], scale: float) -> Iterator[Row]:
    first = min(lane, key=lambda sample: sample.turn)
    last = max(lane, key=lambda sample: sample.turn)
    trace = f"{first.trace}:{first.agent}" if first.agent else first.trace
    user = f"{first.conversation}.{first.agent}" if first.agent else first.conversation
    began = f"turn {first.turn}, {first.trace_tokens} tokens"
    yield _row(first.t_intended * scale, user, "started", trace, began)
    whole = last.turn + 1 >= turns.get(trace, 0) and last.error != "cancelled"
    failed = sum(sample.failed for sample in lane)
    ended_s = max(_ended_s(sample) for sample in lane)
    said = f"{len(lane)} requests, {failed} failed"
    yield _row(ended_s * scale, user, "completed" if whole else "truncated", trace, said)


def _ended_s(sample: Sample) -> float:
    """One that was cut before its end counts from the last that is known of it."""
    known = (sample.t_intended, sample.t_sent, sample.t_first_token, sample.t_end)
    return max(time for time in known if time is not None)


def _row(at_s: float, *cells: str) -> Row:
    return dict(zip(COLUMNS, (at_s, *cells), strict=True))
