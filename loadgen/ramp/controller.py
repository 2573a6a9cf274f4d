"""What every ramp is: told what has become of requests, it says how many users there should be."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from loadgen.ramp.slo import Observed


@dataclass(frozen=True, slots=True)
class Note:
    """One decision, for the record: at engine second `at_s`, `users` from now on, and why."""

    at_s: float
    users: int
    why: str


class Controller(Protocol):
    """Sans-IO: time is an argument, in engine seconds since the start of the run."""

    users: int
    done: bool
    notes: list[Note]

    def tick(self, now: float, ended: Sequence[Observed], waiting: Sequence[Observed]) -> int:
        """`ended` since the last tick, `waiting` all that are in flight; returns `users`."""

    def result(self) -> dict[str, object]:
        """What was found so far, as run.json keeps it."""
