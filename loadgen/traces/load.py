"""Reading a set of traces: a directory of .json and .jsonl files, or one such file."""

from collections.abc import Iterator
from pathlib import Path

from loadgen.traces.model import Trace, truncate
from loadgen.traces.weka import TraceError, parse_trace

FILE_BYTES_MAX = 256 << 20


def load_traces(path: Path, context_tokens_max: int | None = None) -> list[Trace]:
    """All traces under `path`, sorted by id, cut to `context_tokens_max` tokens.

    A trace whose first request is larger is left out. Raises TraceError when a file cannot be
    read as traces, when two traces have one id, or when nothing is left.
    """
    by_id: dict[str, Trace] = {}
    for trace in read_traces(path):
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


def read_traces(path: Path) -> Iterator[Trace]:
    """Every trace under `path`, in file order, uncut."""
    for file in _files(path):
        try:
            size = file.stat().st_size
            data = file.read_bytes() if size <= FILE_BYTES_MAX else b""
        except OSError as error:
            raise TraceError(f"{file}: {error.strerror}") from error
        if size > FILE_BYTES_MAX:
            raise TraceError(f"{file}: {size} bytes, the limit is {FILE_BYTES_MAX}")
        if file.suffix == ".jsonl":
            for number, line in enumerate(data.splitlines(), 1):
                if line.strip():
                    yield parse_trace(line, f"{file.name}:{number}")
        else:
            yield parse_trace(data, file.name)


def _files(path: Path) -> list[Path]:
    if path.is_dir():
        return sorted(file for file in path.iterdir() if file.suffix in (".json", ".jsonl"))
    if not path.exists():
        raise TraceError(f"{path}: no such file or directory")
    return [path]
