"""A run from outside: its settings, its state while it goes on, its result."""

from dataclasses import asdict, dataclass, field

from loadgen.arrivals import Arrivals
from loadgen.chaos import Command, Faults
from loadgen.limits import Limits
from loadgen.ramp.choose import RampRule
from loadgen.ramp.slo import Slo
from loadgen.sample import Sample
from loadgen.schedule import Timing


@dataclass(frozen=True, slots=True)
class Breaker:
    """Ends a run after `failures_max` requests in a row without an answer (0 = never), and none
    for `window_s` real seconds."""

    failures_max: int = 30
    window_s: float = 0.0

    def trips(self, failures: int, silent_s: float) -> bool:
        return 0 < self.failures_max <= failures and silent_s >= self.window_s


@dataclass(frozen=True, slots=True)
class RunSettings:
    """`duration_s` is real time. A `ramp` decides on the number of users instead of `users`, and
    may end the run; with `arrivals` conversations begin whether or not others have ended. With
    no ramp, `duration_s` or `requests` it ends when every trace has been played once; otherwise
    conversations are recycled. A p99 of the client's own delay above `client_lag_max_s` makes a
    run invalid; None: from the SLO's TTFT. `scrape` are URLs of replicas whose /metrics are read
    on the way; `also` are further proxies of the fleet behind `url`, taken in turn. `workers` is
    the number of processes that share the users; what is due in the first `warm_up_s` real seconds
    is in no figure; `faults` are those of clients, `commands` run
    beside them, `limits` are those that this client keeps."""

    url: str
    users: int = 8
    duration_s: float | None = None
    requests: int | None = None
    timing: Timing = field(default_factory=Timing)
    warm_prefix_pct: float = 0.5
    output_tokens_max: int | None = None
    seed: int = 1
    model: str | None = None
    api_key: str | None = field(default=None, repr=False)
    engine_extras: bool = True
    engine_block_size: int = 16
    grace_s: float = 30.0
    timeout_s: float = 900.0
    slo: Slo | None = None
    ramp: RampRule | None = None
    client_lag_max_s: float | None = None
    dialect: str = "chat"
    arrivals: Arrivals | None = None
    scrape: tuple[str, ...] = ()
    breaker: Breaker = field(default_factory=Breaker)
    workers: int = 1
    faults: Faults = field(default_factory=Faults)
    commands: tuple[Command, ...] = ()
    limits: Limits = field(default_factory=Limits)
    also: tuple[str, ...] = ()
    warm_up_s: float = 0.0

    @property
    def recycles(self) -> bool:
        return any(goal is not None for goal in (self.duration_s, self.requests, self.ramp))

    def public(self) -> dict[str, object]:
        """The settings as run.json keeps them: everything but the key."""
        settings = asdict(self)
        del settings["api_key"]
        return settings


@dataclass(slots=True)
class Progress:
    """The state of a run, for whoever displays it."""

    started: float
    users: int
    sent: int = 0
    failures_in_a_row: int = 0
    flying: dict[tuple[str, str, int], Sample] = field(default_factory=dict)
    samples: list[Sample] = field(default_factory=list)
    failed: int = 0

    @property
    def in_flight(self) -> int:
        return len(self.flying)


@dataclass(frozen=True, slots=True)
class RunResult:
    """`record` is what run.json holds: settings, versions, calibration, summary."""

    record: dict[str, object]
    summary: dict[str, object]
    samples: list[Sample]

    @property
    def valid(self) -> bool:
        """Whether the client kept up, so that the figures are the endpoint's."""
        client = self.summary["client"]
        return isinstance(client, dict) and client["valid"] is True
