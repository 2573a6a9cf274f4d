"""Traces with one request a line: Mooncake, Qwen-Bailian and what vLLM calls a timed trace.

Block ids are global: an id stands for its block and all before it, whoever asks. Rows that name
their session, or the row they continue, become conversations; others are conversations of one turn.
"""

from collections.abc import Iterable, Mapping
from typing import Annotated, NamedTuple

import msgspec
from msgspec import Meta, Struct
from msgspec import field as named

from loadgen.traces.errors import TraceError
from loadgen.traces.model import BlockIds, Trace, Turn

_Count = Annotated[int, Meta(ge=0, le=100_000_000)]
_Id = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
BLOCK_SIZE_MAX = 1 << 16


class Labels(NamedTuple):
    """What a file calls the fields of a row."""

    timestamp: str = "timestamp"
    input_length: str = "input_length"
    output_length: str = "output_length"
    hash_ids: str = "hash_ids"


LABELS = Labels()


class Row(Struct):
    timestamp: Annotated[float, Meta(ge=0, le=1e13)]
    input_length: _Count
    output_length: _Count
    hash_ids: list[_Id]
    session_id: str | int | None = None
    chat_id: str | int | None = None
    parent: str | int | None = named(name="parent_chat_id", default=None)


def is_row(entry: Mapping[str, object], labels: Labels = LABELS) -> bool:
    """Whether a JSON object looks like a row rather than a whole conversation."""
    return labels.input_length in entry and "requests" not in entry


def parse_row(entry: Mapping[str, object], where: str, labels: Labels = LABELS) -> Row:
    """`where` (file:line) stands in front of errors."""
    renamed = {**entry, **{ours: entry.get(theirs) for ours, theirs in labels._asdict().items()}}
    try:
        return msgspec.convert(renamed, type=Row)
    except msgspec.ValidationError as error:
        raise TraceError(f"{where}: {error}") from error


def conversations(rows: Iterable[Row], name: str, block_size: int | None = None) -> list[Trace]:
    """Rows as traces, in order of their first request. Whole timestamps are milliseconds, as in
    Mooncake's files, others seconds. Raises TraceError when no block size fits the rows."""
    ordered = sorted(rows, key=lambda row: row.timestamp)
    size = block_size or _block_size(ordered, name)
    unit_s = 1e-3 if all(row.timestamp.is_integer() for row in ordered) else 1.0
    sessions: dict[str, list[Row]] = {}
    session_of: dict[object, str] = {}
    for number, row in enumerate(ordered, 1):
        session = session_of.get(row.parent) if row.parent is not None else None
        if row.session_id is not None:
            session = f"{name}:{row.session_id}"
        session = session or f"{name}:{number}"
        if row.chat_id is not None:
            session_of[row.chat_id] = session
        sessions.setdefault(session, []).append(row)
    begin = ordered[0].timestamp
    return [
        Trace(
            id=session,
            block_size=size,
            fixed_tokens=0,
            steps=tuple(_turns(mine, size, unit_s, f"{name} ({session})")),
            shared_ids=True,
            start_s=(mine[0].timestamp - begin) * unit_s,
        )
        for session, mine in sessions.items()
    ]


def _turns(rows: list[Row], size: int, unit_s: float, where: str) -> list[Turn]:
    turns: list[Turn] = []
    for row in rows:
        whole, partial = divmod(row.input_length, size)
        if len(row.hash_ids) not in (whole, whole + bool(partial)):
            raise TraceError(
                f"{where}: {len(row.hash_ids)} ids for {row.input_length} tokens do not fit "
                f"blocks of {size}"
            )
        at_s = (row.timestamp - rows[0].timestamp) * unit_s
        turns.append(
            Turn(
                t_s=at_s,
                input_tokens=row.input_length,
                output_tokens=row.output_length,
                blocks=BlockIds.of(row.hash_ids).prefix(whole),
                # The service time is not recorded: all of the distance counts as thinking.
                think_s=at_s - turns[-1].t_s if turns else 0.0,
            )
        )
    return turns


def _block_size(rows: list[Row], name: str) -> int:
    """The one power of two under which every row has as many ids as blocks, whole or begun."""
    sizes = [1 << exponent for exponent in range(BLOCK_SIZE_MAX.bit_length())]
    for row in rows:
        count, tokens = len(row.hash_ids), row.input_length
        sizes = [size for size in sizes if count in (tokens // size, -(-tokens // size))]
    if len(sizes) != 1:
        fitting = f"{sizes[0]} to {sizes[-1]}" if sizes else "none"
        raise TraceError(f"{name}: the block size cannot be told from the rows ({fitting} fit)")
    return sizes[0]
