"""The budgets of kv-cache-tester on scripted users: who begins when, and who does not."""

import pytest

from loadgen.ramp.budget import Budget, BudgetRule
from loadgen.traces.model import Trace
from tests.support.traces import growing

PERIOD_S = 30.0


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def of(tokens: int) -> Trace:
    return growing(f"t{tokens}", [tokens])


# (engine second, tokens of the first prompt, live tokens, whether it begins)
Script = list[tuple[float, int, int, bool]]


@pytest.mark.parametrize(
    ("rule", "script"),
    [
        pytest.param(
            BudgetRule(new_tokens_max=500),
            [(0, 300, 0, True), (1, 200, 0, True), (2, 16, 0, False), (29.9, 16, 0, False),
             (30, 500, 0, True), (31, 16, 0, False), (95, 400, 0, True)],
            id="first prompts of one period, up to and with the limit",
        ),
        pytest.param(
            BudgetRule(new_tokens_max=500),
            [(0, 300, 0, True), (1, 300, 0, False), (2, 150, 0, True), (3, 51, 0, False)],
            id="one that is too large leaves room for a smaller one",
        ),
        pytest.param(
            BudgetRule(new_tokens_max=500),
            [(0, 501, 0, False), (30, 501, 0, False)],
            id="more than a period may hold never begins",
        ),
        pytest.param(
            BudgetRule(new_tokens_max=500, waits=True),
            [(0, 501, 0, True), (1, 16, 0, False), (30, 16, 0, True), (31, 501, 0, False)],
            id="... but where users wait it begins a period of its own",
        ),
        pytest.param(
            BudgetRule(working_set_tokens_max=1000),
            [(0, 160, 840, True), (1, 160, 841, False), (2, 175, 840, True), (3, 176, 840, False)],
            id="whole blocks of the first prompt beside the live ones",
        ),
        pytest.param(
            BudgetRule(new_tokens_max=500, working_set_tokens_max=1000),
            [(0, 400, 900, False), (0, 400, 600, True), (1, 400, 0, False), (1, 96, 904, True)],
            id="both, and who is refused has spent nothing",
        ),
        pytest.param(
            BudgetRule(), [(0, 10**6, 10**9, True), (0, 10**6, 10**9, True)], id="no limits"
        ),
    ],
)  # fmt: skip
def test_who_begins(rule: BudgetRule, script: Script) -> None:
    clock = Clock()
    budget = Budget(rule, clock)
    for now, tokens, live, begins in script:
        clock.now, budget.live_tokens = now, live
        why = budget.refusal(of(tokens))
        assert (not why) is begins, (now, tokens, why)
        if not why:
            budget.spend(of(tokens))


def test_reasons_are_told_once() -> None:
    budget = Budget(BudgetRule(500), Clock())
    budget.spend(of(480))
    budget.lose(budget.refusal(of(96)))
    assert budget.take_lost() == ["96 new tokens after 480 in this period"]
    assert budget.take_lost() == []


def test_the_next_period_is_on_the_grid() -> None:
    clock = Clock()
    budget = Budget(BudgetRule(500, period_s=PERIOD_S), clock)
    for clock.now, left_s in ((0.0, 30.0), (29.0, 1.0), (30.0, 30.0), (100.0, 20.0)):
        assert budget.next_period_in_s() == left_s
