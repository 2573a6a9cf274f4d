"""One replayed request as one record, and the file that keeps them."""

from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec
from msgspec import Struct


class Sample(Struct, omit_defaults=True):
    """What one request asked for and what came of it.

    `t_*` are real seconds since the start of the run, None where it was not reached. The
    latencies are engine seconds: real ones times the run's time scale; `silent_s` is how long a
    request that failed or was cut had waited without a first token. `chunks` are the times of the
    streamed chunks in tenths of a real millisecond after the first.
    """

    conversation: str
    trace: str
    turn: int
    agent: str = ""
    trace_tokens: int = 0
    planned_tokens: int = 0
    bound_tokens: int = 0
    output_tokens_asked: int = 0
    t_intended: float = 0.0
    t_sent: float | None = None
    t_written: float | None = None
    t_first_byte: float | None = None
    t_first_token: float | None = None
    t_end: float | None = None
    lag_s: float | None = None
    ttft_s: float | None = None
    ttft_wire_s: float | None = None
    itl_s: float | None = None
    e2e_s: float | None = None
    silent_s: float | None = None
    prompt_tokens: int | None = None
    cached_tokens: int | None = None
    completion_tokens: int | None = None
    predicted_cached_tokens: int | None = None
    policy: str = ""
    evidence: str = ""
    replica: str = ""
    request_id: str = ""
    queue_s: float | None = None
    waited_s: float | None = None
    status: int = 0
    attempts: int = 1
    error: str = ""
    error_detail: str = ""
    worker: int = 0
    fault: str = ""
    chunks: list[int] = []

    @property
    def key(self) -> tuple[str, str, int]:
        """Unique in a run."""
        return self.conversation, self.agent, self.turn

    @property
    def cut(self) -> bool:
        """Ended by this side, so that it says nothing of the endpoint's failures."""
        return self.error in ("cancelled", "aborted")

    @property
    def ok(self) -> bool:
        return not self.error

    @property
    def failed(self) -> bool:
        return not self.ok and not self.cut


_decoder = msgspec.json.Decoder(Sample)


class Journal:
    """requests.jsonl: one line a request, on disk as soon as the request has ended."""

    def __init__(self, path: Path, *, append: bool = False) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("ab" if append else "wb", buffering=0)

    def append(self, sample: Sample) -> None:
        self._file.write(msgspec.json.encode(sample) + b"\n")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()


def read_journal(path: Path) -> list[Sample]:
    """The samples of a run; a torn last line (the run was killed) is left out. ValueError names
    any other that is no sample."""
    samples = []
    for number, line in enumerate(path.read_bytes().split(b"\n")[:-1], 1):
        try:
            samples.append(_decoder.decode(line))
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise ValueError(f"line {number}: {error}") from error
    return samples
