"""Answers of a real vLLM to the requests in `tests.support.realstack`, kept in the repository."""

from dataclasses import dataclass
from pathlib import Path

import msgspec

ANSWERS = Path(__file__).resolve().parents[1] / "golden" / "vllm_answers.jsonl"


@dataclass(frozen=True, slots=True)
class Golden:
    """`complete`: the body ended as its framing said, not because the connection did."""

    name: str
    status: int
    headers: list[tuple[str, str]]
    body: str
    complete: bool = True


def golden() -> dict[str, Golden]:
    """By the name of the request."""
    found = [msgspec.json.decode(line, type=Golden) for line in ANSWERS.read_bytes().splitlines()]
    return {each.name: each for each in found}
