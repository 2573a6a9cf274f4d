"""Reading a set of traces: a directory of trace files, or one file, in any format we know.

A .json file holds one conversation, a .jsonl file one a line, or one request a line, or packed
runs: its first line tells. All may be compressed (.gz).
"""

import gzip
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from loadgen.traces.errors import TraceError
from loadgen.traces.model import Trace, truncate
from loadgen.traces.packed import unpack
from loadgen.traces.rows import Labels, conversations, is_row, parse_row
from loadgen.traces.weka import parse_trace

FILE_BYTES_MAX = 1 << 30
SUFFIXES = (".json", ".jsonl", ".json.gz", ".jsonl.gz")


@dataclass(frozen=True, slots=True)
class RowFormat:
    """What must be said about files of one request a line: the names of their fields, and the
    tokens of a block (None: whatever fits the rows)."""

    labels: Labels = field(default_factory=Labels)
    block_size: int | None = None


def load_traces(
    path: Path, context_tokens_max: int | None = None, rows: RowFormat | None = None
) -> list[Trace]:
    """All traces under `path`, sorted by id, cut to `context_tokens_max` tokens.

    A trace whose first request is larger is left out. Raises TraceError when a file cannot be
    read as traces, when two traces have one id, or when nothing is left.
    """
    by_id: dict[str, Trace] = {}
    for trace in read_traces(path, rows):
        if trace.id in by_id:
            raise TraceError(f"{path}: two traces have the id {trace.id!r}")
        by_id[trace.id] = trace
    if not by_id:
        raise TraceError(f"{path}: no traces found (*.json or *.jsonl)")
    traces = [by_id[key] for key in sorted(by_id)]
    if context_tokens_max is None:
        return traces
    fitting = [cut for trace in traces if (cut := truncate(trace, context_tokens_max))]
    if not fitting:
        raise TraceError(
            f"{path}: the first request of each of the {len(traces)} traces is larger than "
            f"{context_tokens_max} tokens"
        )
    return fitting


def read_traces(path: Path, rows: RowFormat | None = None) -> Iterator[Trace]:
    """Every trace under `path`, in file order, uncut."""
    for file in _files(path):
        data = _content(file)
        if ".jsonl" in file.name:
            yield from _lines(data, file.name, rows or RowFormat())
        else:
            yield parse_trace(data, file.name)


def _lines(data: bytes, name: str, rows: RowFormat) -> Iterator[Trace]:
    lines = [(f"{name}:{at}", line) for at, line in enumerate(data.splitlines(), 1) if line.strip()]
    first = _object(*lines[0]) if lines else {}
    if "packed" in first:
        yield from (unpack(line, where) for where, line in lines)
    elif is_row(first, rows.labels):
        parsed = (parse_row(_object(where, line), where, rows.labels) for where, line in lines)
        yield from conversations(parsed, name, rows.block_size)
    else:
        yield from (parse_trace(line, where) for where, line in lines)


def _object(where: str, line: bytes) -> dict[str, object]:
    try:
        return msgspec.json.decode(line, type=dict[str, object])
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise TraceError(f"{where}: {error}") from error


def _content(file: Path) -> bytes:
    try:
        with gzip.open(file) if file.suffix == ".gz" else file.open("rb") as opened:
            data = opened.read(FILE_BYTES_MAX + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise TraceError(f"{file}: {getattr(error, 'strerror', None) or error}") from error
    if len(data) > FILE_BYTES_MAX:
        raise TraceError(f"{file}: more than {FILE_BYTES_MAX} bytes")
    return data.removeprefix(b"\xef\xbb\xbf")  # some editors mark UTF-8 so


def _files(path: Path) -> list[Path]:
    if path.is_dir():
        return sorted(file for file in path.iterdir() if file.name.endswith(SUFFIXES))
    if not path.exists():
        raise TraceError(f"{path}: no such file or directory")
    return [path]
