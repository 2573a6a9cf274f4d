"""Captured event streams of a real engine: their frames, as they came off the wire."""

from collections.abc import Iterator
from pathlib import Path

from tests.support.shared import shared_dir


def event_captures() -> list[Path]:
    """All of them, by name; none where there is no reference data."""
    folder = shared_dir()
    return sorted((folder / "vllm-samples/events").glob("*.bin")) if folder else []


def messages(path: Path) -> Iterator[list[bytes]]:
    """Each message is its number of frames, then each frame's length and bytes; big endian."""
    data = path.read_bytes()
    at = 0

    def number() -> int:
        nonlocal at
        at += 4
        return int.from_bytes(data[at - 4 : at], "big")

    while at < len(data):
        frames = []
        for _ in range(number()):
            size = number()
            frames.append(data[at : at + size])
            at += size
        yield frames
