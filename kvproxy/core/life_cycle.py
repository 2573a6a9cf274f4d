"""Whether a replica may be placed on: one table of states and evidence.

Probes and requests are two witnesses. A replica whose /health answers while its requests fail is
not well, so neither takes back what the other said. Going out is quick and coming back is not: a
replica that returns proves itself on one request at a time, and the more often it left lately the
longer it stays out.
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum


class Health(StrEnum):
    """Where a replica stands."""

    STARTING = "starting"  # has not answered a probe yet
    READY = "ready"
    SUSPECT = "suspect"  # a request failed on it: asked again before it is used again
    EJECTED = "ejected"
    PROBING = "probing"  # looks well again; one request at a time has to prove it
    PAUSED = "paused"  # the engine sleeps, on purpose
    DRAINING = "draining"  # finishes what it has
    GONE = "gone"


class Evidence(StrEnum):
    """What was seen of a replica."""

    PROBE_OK = "probe_ok"
    PROBE_FAILED = "probe_failed"
    ANSWERED = "answered"
    FAILED = "failed"  # unreachable, broke off before an answer, or an engine error
    STALLED = "stalled"  # holds requests and gives no byte, though /health may be fine
    SLEEPS = "sleeps"
    DRAIN = "drain"
    UNDRAIN = "undrain"
    REMOVE = "remove"
    # Not seen but concluded: too many failures of one kind in a row; out for long enough.
    STRUCK_OUT = "struck_out"
    COOLED = "cooled"


_SERVING = (Health.STARTING, Health.READY, Health.SUSPECT, Health.PROBING)
_LIVE = (*_SERVING, Health.EJECTED, Health.PAUSED)

# Evidence that has no row for a state does not move it.
TABLE: dict[tuple[Health, Evidence], Health] = {
    (Health.STARTING, Evidence.PROBE_OK): Health.READY,
    (Health.READY, Evidence.FAILED): Health.SUSPECT,
    (Health.SUSPECT, Evidence.PROBE_OK): Health.READY,
    (Health.SUSPECT, Evidence.ANSWERED): Health.READY,
    (Health.READY, Evidence.STRUCK_OUT): Health.EJECTED,
    (Health.SUSPECT, Evidence.STRUCK_OUT): Health.EJECTED,
    (Health.PAUSED, Evidence.STRUCK_OUT): Health.EJECTED,
    (Health.READY, Evidence.STALLED): Health.EJECTED,
    (Health.SUSPECT, Evidence.STALLED): Health.EJECTED,
    (Health.EJECTED, Evidence.COOLED): Health.PROBING,
    (Health.PROBING, Evidence.ANSWERED): Health.READY,
    (Health.PROBING, Evidence.FAILED): Health.EJECTED,
    (Health.PROBING, Evidence.PROBE_FAILED): Health.EJECTED,
    (Health.PROBING, Evidence.STALLED): Health.EJECTED,
    (Health.PAUSED, Evidence.PROBE_OK): Health.READY,
    (Health.DRAINING, Evidence.UNDRAIN): Health.STARTING,
    **{(state, Evidence.SLEEPS): Health.PAUSED for state in _SERVING},
    **{(state, Evidence.DRAIN): Health.DRAINING for state in _LIVE},
    **{(state, Evidence.REMOVE): Health.GONE for state in (*_LIVE, Health.DRAINING)},
}

_GOOD = {Evidence.PROBE_OK: Evidence.PROBE_FAILED, Evidence.ANSWERED: Evidence.FAILED}


@dataclass(frozen=True, slots=True)
class LifeLimits:
    """`strikes`: failures of one kind in a row that eject. The n-th ejection within `flap_s`
    keeps a replica out for 0, 2, 4, … `cool_max_s` seconds, from its first good probe on."""

    strikes: int = 3
    cool_max_s: float = 60.0
    flap_s: float = 600.0


@dataclass(slots=True)
class LifeCycle:
    """The state of one replica; `see` is its only way to change."""

    limits: LifeLimits = LifeLimits()
    health: Health = Health.STARTING
    since: float = 0.0
    _strikes: dict[Evidence, int] = field(default_factory=dict)
    _by_probes: bool = False
    _ejections: deque[float] = field(default_factory=lambda: deque(maxlen=16))

    def see(self, evidence: Evidence, now: float) -> bool:
        """Whether the state changed. `now` in seconds."""
        if evidence is Evidence.ANSWERED and self.health is Health.READY and not self._strikes:
            # What nearly every request says.
            return False
        for concluded in self._conclude(evidence, now):
            after = TABLE.get((self.health, concluded))
            if after is not None:
                probed = evidence is Evidence.PROBE_FAILED and self.health is not Health.PAUSED
                self._by_probes = probed and not self.strikes(Evidence.FAILED)
                self._move(after, now)
                return True
        return False

    def strikes(self, evidence: Evidence) -> int:
        """Failures of this kind since the last success of the same kind."""
        return self._strikes.get(evidence, 0)

    @property
    def doubtful(self) -> bool:
        """Whether it is out for probes alone, and no request failed on it since it was well. Where
        they fail on most of a fleet, it may be the probes that are ill: busy engines, or the
        network that probes take, answer them late."""
        out = self.health is Health.EJECTED and self._by_probes
        return out and not self.strikes(Evidence.FAILED)

    def back_at(self, now: float) -> float:
        """When an ejected replica may be tried again, if it is well by then."""
        recent = sum(now - at < self.limits.flap_s for at in self._ejections)
        return self.since + (min(self.limits.cool_max_s, 2.0 ** (recent - 1)) if recent > 1 else 0)

    def _conclude(self, evidence: Evidence, now: float) -> Iterator[Evidence]:
        """What follows from it, the strongest first."""
        if evidence in _GOOD:
            self._strikes.pop(_GOOD[evidence], None)
            cooled = evidence is Evidence.PROBE_OK and now >= self.back_at(now)
            if cooled or (evidence is Evidence.ANSWERED and self.doubtful):
                yield Evidence.COOLED
        if evidence in _GOOD.values():
            self._strikes[evidence] = self.strikes(evidence) + 1
            if self._strikes[evidence] >= self.limits.strikes:
                yield Evidence.STRUCK_OUT
        yield evidence

    def _move(self, health: Health, now: float) -> None:
        if health is Health.EJECTED:
            self._ejections.append(now)
        if health in (Health.EJECTED, Health.STARTING):
            self._strikes.clear()
        self.health, self.since = health, now
