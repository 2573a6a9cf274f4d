"""From a rule to the controller that follows it."""

from collections.abc import Callable

from loadgen.ramp.budget import Budget, BudgetRule
from loadgen.ramp.certify import CertifyRamp, CertifyRule
from loadgen.ramp.classic import ClassicRamp, ClassicRule
from loadgen.ramp.controller import Controller

RampRule = ClassicRule | CertifyRule


def controller_of(rule: RampRule) -> Controller:
    return ClassicRamp(rule) if isinstance(rule, ClassicRule) else CertifyRamp(rule)


def budget_of(rule: RampRule | None, clock: Callable[[], float]) -> Budget | None:
    """None when users may begin whatever they bring; `clock` tells engine seconds."""
    if rule is None:
        return None
    classic = isinstance(rule, ClassicRule)
    working_set = rule.working_set_tokens_max if isinstance(rule, ClassicRule) else 0
    if not rule.new_tokens_max and not working_set:
        return None
    return Budget(
        BudgetRule(rule.new_tokens_max, working_set, rule.period_s, waits=not classic), clock
    )
