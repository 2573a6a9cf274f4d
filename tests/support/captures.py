"""Captured exchanges with a real engine: request, status, headers and body of each."""

from dataclasses import dataclass
from pathlib import Path

from tests.support.shared import shared_dir
from tests.support.wire import RawHeaders


@dataclass(frozen=True)
class Capture:
    name: str
    method: str
    target: str
    headers: RawHeaders
    body: bytes | None
    status: str
    answer_headers: RawHeaders
    answer_body: bytes


def captures() -> list[Capture]:
    """All of them, by name; none where there is no reference data."""
    folder = shared_dir()
    paths = sorted((folder / "vllm-samples/http").glob("*.http")) if folder else []
    return [_read(path) for path in paths]


def _read(path: Path) -> Capture:
    """Lines of the request start with `> `, of the answer's head with `< `."""
    request, _, rest = path.read_bytes().partition(b"\n< ")
    first, *lines = [line.removeprefix(b"> ") for line in request.split(b"\n")]
    method, target = first.decode().split(" ")
    blank = next((i for i, line in enumerate(lines) if line in (b"", b">")), len(lines))
    # Bodies that were too large to keep were left out together with the blank line.
    body = b"\n".join(lines[blank + 1 :]) if lines[blank:] else None
    head = rest.split(b"\n\n")[0].split(b"\n")
    status = head[0].decode().rpartition(" (")[0]
    return Capture(
        path.stem, method, target, _headers(lines[:blank]), body, status,
        _headers([line.removeprefix(b"< ") for line in head[1:]]),
        path.with_suffix(".body").read_bytes(),
    )  # fmt: skip


def _headers(lines: list[bytes]) -> RawHeaders:
    pairs = (line.partition(b":") for line in lines if line)
    return [(name, value.strip()) for name, _, value in pairs]
