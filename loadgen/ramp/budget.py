"""How many new tokens a ramp's users may bring in one period: kv-cache-tester's budgets.

A user who begins brings a prompt that no cache holds. Its gates look at times to first token, so
many at once would be judged by the prefill they caused themselves.
"""

from collections.abc import Callable
from dataclasses import dataclass

from loadgen.traces.model import Trace

# So many conversations are looked at before a user is given up for this period.
TRIES = 5


@dataclass(frozen=True, slots=True)
class BudgetRule:
    """First prompts of users who begin in one period of `period_s` engine seconds: `new_tokens_max`
    together; and no one begins whose blocks would make the live ones more than
    `working_set_tokens_max`. 0 = no limit. `waits`: who does not fit begins in a later period, and
    conversations that follow are free; otherwise, as in kv-cache-tester, that user is lost until
    the ramp asks for another."""

    new_tokens_max: int = 0
    working_set_tokens_max: int = 0
    period_s: float = 30.0
    waits: bool = False


class Budget:
    """`clock` tells engine seconds since the start of the run. `live_tokens` is the working set as
    whoever follows it says; `lost` counts users that did not fit, `joining` those that wait."""

    def __init__(self, rule: BudgetRule, clock: Callable[[], float]) -> None:
        self.rule = rule
        self.live_tokens = 0
        self.joining = 0
        self._clock = clock
        self._period = 0
        self._spent = 0
        self._lost: list[str] = []

    def refusal(self, trace: Trace) -> str:
        """Why a conversation may not begin now, empty when it may."""
        self._turn()
        first = trace.turns[0]
        spent, most = self._spent, self.rule.new_tokens_max
        # Who waits for a later period would wait for ever with more than one may hold.
        alone = self.rule.waits and not spent
        blocks, cap = len(first.blocks) * trace.block_size, self.rule.working_set_tokens_max
        if cap and self.live_tokens + blocks > cap:
            return f"{blocks} tokens beside a working set of {self.live_tokens}"
        if most and spent + first.input_tokens > most and not alone:
            return f"{first.input_tokens} new tokens after {spent} in this period"
        return ""

    def spend(self, trace: Trace) -> None:
        """A conversation begins, asked or not."""
        self._turn()
        self._spent += trace.turns[0].input_tokens

    def next_period_in_s(self) -> float:
        """Engine seconds."""
        return (int(self._clock() // self.rule.period_s) + 1) * self.rule.period_s - self._clock()

    def lose(self, why: str) -> None:
        self._lost.append(why)

    def take_lost(self) -> list[str]:
        """Why users were lost since this was last asked, one reason each."""
        lost, self._lost = self._lost, []
        return lost

    def _turn(self) -> None:
        period = int(self._clock() // self.rule.period_s)
        if period != self._period:
            self._period, self._spent = period, 0
