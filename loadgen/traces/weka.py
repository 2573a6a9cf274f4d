"""The kv-cache-tester (Weka) trace format: one conversation as one JSON object.

A file is foreign data: its shape is checked field by field, and an error names the field.
"""

from typing import Annotated

import msgspec
from msgspec import Meta, Struct
from msgspec import field as named

from loadgen.traces.errors import TraceError
from loadgen.traces.model import BlockIds, SubAgent, Trace, Turn, distinct_agents

BLOCK_SIZE = 64
# Past every model's context window: a larger number is a mistake in the file.
_Count = Annotated[int, Meta(ge=0, le=100_000_000)]
_Id = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
_Seconds = Annotated[float, Meta(ge=0, le=1e9)]
NESTING_MAX = 8


class _Step(Struct):
    type: str = "n"
    t: _Seconds = 0.0
    input: _Count | None = named(name="in", default=None)
    out: _Count | None = None
    hash_ids: list[_Id] | None = None
    input_types: list[str] | None = None
    api_time: _Seconds | None = None
    think_time: _Seconds | None = None
    agent_id: str | None = None
    subagent_type: str | None = None
    status: str | None = None
    tool_tokens: _Count | None = None
    system_tokens: _Count | None = None
    requests: "list[_Step] | None" = None


class _Trace(Struct):
    requests: list[_Step]
    id: str = ""
    models: list[str] | None = None
    block_size: Annotated[int, Meta(ge=1, le=65536)] = BLOCK_SIZE
    hash_id_scope: str = "local"
    tool_tokens: _Count = 0
    system_tokens: _Count = 0


_decoder = msgspec.json.Decoder(_Trace)


def parse_trace(data: bytes | str, name: str) -> Trace:
    """One JSON object as a Trace; `name` (file, or file:line) stands in front of errors and
    serves as the id of a trace without one."""
    try:
        raw = _decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise TraceError(f"{name}: {error}") from error
    if raw.hash_id_scope not in ("local", "global", "per_context"):
        raise TraceError(f"{name}: unknown hash_id_scope {raw.hash_id_scope!r}")
    steps = _steps(raw.requests, raw.block_size, f"{name}: $.requests", 0)
    if not any(isinstance(step, Turn) for step in steps):
        raise TraceError(f"{name}: $.requests holds no request")
    return Trace(
        id=raw.id or name,
        block_size=raw.block_size,
        fixed_tokens=raw.tool_tokens + raw.system_tokens,
        steps=distinct_agents(steps),
        shared_ids=raw.hash_id_scope == "global",
        models=tuple(raw.models or ()),
    )


def _steps(
    raw_steps: list[_Step], block_size: int, where: str, depth: int
) -> list[Turn | SubAgent]:
    steps: list[Turn | SubAgent] = []
    before: Turn | None = None
    for index, raw in enumerate(raw_steps):
        here = f"{where}[{index}]"
        if raw.type == "subagent":
            steps.extend(_sub_agents(raw, block_size, here, depth + 1))
        else:
            before = _turn(raw, before, block_size, here)
            steps.append(before)
    return steps


def _sub_agents(raw: _Step, block_size: int, where: str, depth: int) -> list[SubAgent]:
    """The sub-agent, then any that it started itself: all run beside the same parent."""
    if depth > NESTING_MAX:
        raise TraceError(f"{where}: sub-agents nested deeper than {NESTING_MAX}")
    steps = _steps(raw.requests or [], block_size, f"{where}.requests", depth)
    nested = [step for step in steps if isinstance(step, SubAgent)]
    turns = tuple(step for step in steps if isinstance(step, Turn))
    if not turns:
        return nested
    agent = SubAgent(
        agent_id=raw.agent_id or where.rpartition("$")[2],
        t_s=raw.t,
        turns=turns,
        fixed_tokens=(raw.tool_tokens or 0) + (raw.system_tokens or 0),
        waits=raw.status != "async_launched",
        kind=raw.subagent_type or "",
    )
    return [agent, *nested]


def _turn(raw: _Step, before: Turn | None, block_size: int, where: str) -> Turn:
    if raw.input is None:
        raise TraceError(f"{where}.in is missing")
    if raw.hash_ids is None:
        raise TraceError(f"{where}.hash_ids is missing")
    whole, partial = divmod(raw.input, block_size)
    if len(raw.hash_ids) not in (whole, whole + bool(partial)):
        raise TraceError(
            f"{where}.hash_ids has {len(raw.hash_ids)} ids, but {raw.input} tokens "
            f"are {whole} whole blocks of {block_size}"
        )
    return Turn(
        t_s=raw.t,
        input_tokens=raw.input,
        output_tokens=raw.out or 0,
        # Some publishers also give the partial last block an id; it names no whole block.
        blocks=BlockIds.of(raw.hash_ids).prefix(whole),
        think_s=_think_s(raw, before),
        api_s=raw.api_time,
        tool_result="tool_result" in (raw.input_types or ()),
    )


def _think_s(raw: _Step, before: Turn | None) -> float:
    """Time between the end of the turn before and this one.

    Where the turn before has no api_time its end is unknown, and the recorded think time was
    seen to exceed even the distance of the two starts; that distance is then the bound.
    """
    if before is None:
        return 0.0
    gap_s = max(0.0, raw.t - before.t_s)
    if raw.think_time is None:
        return max(0.0, gap_s - (before.api_s or 0.0))
    if before.api_s is None:
        return min(raw.think_time, gap_s)
    return raw.think_time
