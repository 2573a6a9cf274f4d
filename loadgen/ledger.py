"""What has become of every request of a run, kept as it happens."""

import time
from typing import Protocol

from loadgen.run_values import Breaker, Progress
from loadgen.sample import Journal, Sample
from loadgen.session import Gate


class Witness(Protocol):
    """Hears of every request when it leaves and when it has ended."""

    def sent(self, sample: Sample) -> None: ...

    def ended(self, sample: Sample) -> None: ...


class Ledger:
    """Closes the gate when so many failures in a row, none of them an answer and none for so
    long, mean that nobody is there."""

    def __init__(self, progress: Progress, gate: Gate, breaker: Breaker) -> None:
        self.progress = progress
        self.journal: Journal | None = None
        self._gate = gate
        self._breaker = breaker
        self._answered_at = time.monotonic()

    def sent(self, sample: Sample) -> None:
        self.progress.sent += 1
        self.progress.flying[sample.key] = sample

    def ended(self, sample: Sample) -> None:
        progress = self.progress
        del progress.flying[sample.key]
        if self.journal is not None:
            self.journal.append(sample)
        # On disk by now; in memory they would outgrow everything else.
        sample.chunks = []
        progress.samples.append(sample)
        progress.failed += sample.failed
        if sample.status:
            progress.failures_in_a_row = 0
            self._answered_at = time.monotonic()
        elif not sample.cut:
            progress.failures_in_a_row += 1
            silent_s = time.monotonic() - self._answered_at
            if self._breaker.trips(progress.failures_in_a_row, silent_s):
                self._gate.close("endpoint lost")
