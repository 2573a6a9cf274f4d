"""One thing that is wrong, or worth knowing: what, where, by what evidence, and the mend."""

from enum import IntEnum
from typing import NamedTuple


class Severity(IntEnum):
    """How much it matters; the exit code of `kvproxy doctor` goes by the gravest."""

    NOTE = 0  # worth knowing; nothing is lost by it today
    WARNING = 1  # costs cache hits, or hides whether there are any
    ERROR = 2  # the cache, or the replica, does not work


class Finding(NamedTuple):
    """`code` is stable, for scripts; `replica` is empty where it concerns all of them."""

    code: str
    severity: Severity
    replica: str
    what: str
    evidence: str
    mend: str

    def as_json(self) -> dict[str, str]:
        return self._asdict() | {"severity": self.severity.name.lower()}


def exit_code(findings: list[Finding]) -> int:
    """0: nothing but notes; 1: warnings; 3: errors. (2 is a command that was typed wrong.)"""
    gravest = max((finding.severity for finding in findings), default=Severity.NOTE)
    return {Severity.NOTE: 0, Severity.WARNING: 1, Severity.ERROR: 3}[gravest]
