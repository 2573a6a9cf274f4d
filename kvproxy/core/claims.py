"""What workers have asked the placement process for and what they hold, as values."""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

from kvproxy.core.diagnosis import Stake
from kvproxy.core.holdings import Outcome
from kvproxy.core.line import Ticket
from kvproxy.core.placement import Placement
from kvproxy.core.replica import Replica
from kvproxy.core.threads import Step

# Attempts that failed, kept until the next attempt of the same request asks.
_LEFT_MAX = 1024


class Pin(NamedTuple):
    """What came of a request that goes on from a response; see Record."""

    pin: str
    pinned: str


NO_PIN = Pin("", "")


class Told(NamedTuple):
    """A prompt that was answered, as it was forwarded."""

    placement: Placement
    prompt_tokens: int
    salt: str
    path: str
    body: bytes


@dataclass(slots=True)
class Asked:
    """Waits for its turn."""

    ticket: Ticket
    key: str
    step: Step | None
    stake: Stake | None
    pin: Pin


@dataclass(slots=True)
class Holding:
    """Placed. `adopted`: by a placement process that is no more, so nothing can be learned."""

    placement: Placement
    key: str
    step: Step | None
    adopted: bool = False


@dataclass(slots=True)
class Worker:
    claims: dict[int, Asked | Holding] = field(default_factory=dict)
    left: "OrderedDict[int, Step | None]" = field(default_factory=OrderedDict)

    def leave(self, n: int, step: Step | None) -> None:
        """The attempt `n` failed; the next one of its request will name it."""
        self.left[n] = step
        if len(self.left) > _LEFT_MAX:
            self.left.popitem(last=False)


@dataclass(frozen=True, slots=True)
class Ears:
    """Who is told of what: `doubt` and `changed` of replicas, `learned` of predictions, `wants` and
    `told` of prompts, `placed` of decisions about them."""

    doubt: Callable[[Replica], None]
    changed: Callable[[Replica], None]
    learned: Callable[[Replica, Outcome], None]
    wants: Callable[[Replica], bool]
    told: Callable[[Told], None]
    placed: Callable[[Placement], None]
