"""Whether an engine that holds requests still gets anything done."""

from dataclasses import dataclass


@dataclass(slots=True)
class Progress:
    """Of one replica, from its own counters."""

    work: float | None = None
    at: float = 0.0

    def stalled_s(self, running: int, work: float | None, now: float) -> float:
        """Seconds for which requests ran and no counter moved; 0 where nothing runs or the engine
        does not count."""
        if work is None or not running or work != self.work:
            self.work, self.at = work, now
        return now - self.at
