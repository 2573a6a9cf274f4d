"""Traces as runs of block ids: a hundredth of the JSON they came from, and read as fast.

One JSON line a conversation. A turn keeps a number of leading blocks of the turn before it in its
lane and continues with (first id, length) runs; nearly every turn keeps all and adds one run.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from loadgen.traces.errors import TraceError
from loadgen.traces.model import BlockIds, SubAgent, Trace, Turn, distinct_agents

VERSION = 1
_Count = Annotated[int, Meta(ge=0, le=100_000_000)]
_Seconds = Annotated[float, Meta(ge=0, le=1e9)]
_IDS_END = 2**63


class _Turn(Struct, array_like=True, tag=0):
    t_s: _Seconds
    input_tokens: _Count
    output_tokens: _Count
    think_s: _Seconds
    api_s: _Seconds | None
    tool_result: bool
    kept: _Count
    runs: list[int]


class _Agent(Struct, array_like=True, tag=1):
    agent_id: str
    t_s: _Seconds
    fixed_tokens: _Count
    waits: bool
    kind: str
    turns: list[_Turn]


class _Packed(Struct, omit_defaults=True):
    packed: int
    id: str
    block_size: Annotated[int, Meta(ge=1, le=65536)]
    fixed_tokens: _Count
    steps: list[_Turn | _Agent]
    shared_ids: bool = False
    models: list[str] = []
    start_s: _Seconds = 0.0


_decoder = msgspec.json.Decoder(_Packed)


def pack(trace: Trace) -> bytes:
    """One line, without its end."""
    lane: list[Turn] = []
    steps: list[_Turn | _Agent] = []
    for step in trace.steps:
        if isinstance(step, Turn):
            steps.append(_pack_turn(step, lane[-1] if lane else None))
            lane.append(step)
            continue
        inner = [None, *step.turns[:-1]]
        turns = [_pack_turn(*pair) for pair in zip(step.turns, inner, strict=True)]
        fields = (step.agent_id, step.t_s, step.fixed_tokens, step.waits, step.kind)
        steps.append(_Agent(*fields, turns))
    packed = _Packed(
        packed=VERSION,
        id=trace.id,
        block_size=trace.block_size,
        fixed_tokens=trace.fixed_tokens,
        steps=steps,
        shared_ids=trace.shared_ids,
        models=list(trace.models),
        start_s=trace.start_s,
    )
    return msgspec.json.encode(packed)


def write_packed(traces: Iterable[Trace], file: Path) -> int:
    """Write all traces, one a line; returns how many."""
    count = 0
    with file.open("wb") as out:
        for trace in traces:
            out.write(pack(trace) + b"\n")
            count += 1
    return count


def unpack(line: bytes, where: str) -> Trace:
    """`where` (file:line) stands in front of errors."""
    try:
        raw = _decoder.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise TraceError(f"{where}: {error}") from error
    if raw.packed != VERSION:
        raise TraceError(f"{where}: packed format {raw.packed}, this reads {VERSION}")
    if not any(isinstance(step, _Turn) for step in raw.steps):
        raise TraceError(f"{where}: $.steps holds no request")
    steps: list[Turn | SubAgent] = []
    before: Turn | None = None
    for step in raw.steps:
        if isinstance(step, _Turn):
            before = _unpack_turn(step, before, raw.block_size, where)
            steps.append(before)
            continue
        turns: list[Turn] = []
        for turn in step.turns:
            last = turns[-1] if turns else None
            turns.append(_unpack_turn(turn, last, raw.block_size, where))
        fields = (step.agent_id, step.t_s, tuple(turns), step.fixed_tokens, step.waits)
        if turns:
            steps.append(SubAgent(*fields, kind=step.kind))
    return Trace(
        id=raw.id,
        block_size=raw.block_size,
        fixed_tokens=raw.fixed_tokens,
        steps=distinct_agents(steps),
        shared_ids=raw.shared_ids,
        models=tuple(raw.models),
        start_s=raw.start_s,
    )


def _pack_turn(turn: Turn, before: Turn | None) -> _Turn:
    kept = turn.blocks.common_prefix(before.blocks) if before else 0
    runs = [number for run in turn.blocks.suffix(kept).runs for number in run]
    times = (turn.think_s, turn.api_s, turn.tool_result)
    return _Turn(turn.t_s, turn.input_tokens, turn.output_tokens, *times, kept, runs)


def _unpack_turn(raw: _Turn, before: Turn | None, block_size: int, where: str) -> Turn:
    kept = before.blocks.prefix(raw.kept) if before else BlockIds((), 0)
    runs = list(zip(raw.runs[::2], raw.runs[1::2], strict=False))
    # Checked before the ids are counted out: a run may claim any length.
    count = kept.count + sum(length for _, length in runs)
    odd = any(n < 1 or not -_IDS_END <= first <= _IDS_END - n for first, n in runs)
    if len(raw.runs) % 2 or odd or kept.count != raw.kept:
        raise TraceError(f"{where}: a turn of {raw.input_tokens} tokens has damaged runs")
    if count != raw.input_tokens // block_size:
        raise TraceError(f"{where}: {count} blocks for {raw.input_tokens} tokens")
    blocks = kept.extended(runs)
    rest = (raw.think_s, raw.api_s, raw.tool_result)
    return Turn(raw.t_s, raw.input_tokens, raw.output_tokens, blocks, *rest)
