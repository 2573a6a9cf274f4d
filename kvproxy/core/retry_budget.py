"""How many requests may be tried again, so that retries never become what keeps a fleet down."""

from dataclasses import dataclass


@dataclass(slots=True)
class RetryBudget:
    """Every request earns `share` of a retry, up to `burst`: enough for all that one lost replica
    was working on, not enough to double the load of a fleet that refuses everything."""

    share: float = 0.2
    burst: float = 256.0
    left: float = 256.0

    def earn(self) -> None:
        self.left = min(self.burst, self.left + self.share)

    def spend(self) -> bool:
        """Whether one more attempt may be made."""
        if self.left < 1.0:
            return False
        self.left -= 1.0
        return True
