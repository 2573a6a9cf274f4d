from loadgen.ramp.budget import BudgetRule
from loadgen.ramp.certify import CertifyRamp, CertifyRule
from loadgen.ramp.choose import budget_of, controller_of
from loadgen.ramp.classic import ClassicRamp, ClassicRule
from loadgen.ramp.slo import Limit, Slo


def test_a_rule_finds_its_controller() -> None:
    assert isinstance(controller_of(ClassicRule(2.0, 8)), ClassicRamp)
    certify = CertifyRule(Slo((Limit("ttft_s", 2.0),)), 8)
    assert isinstance(controller_of(certify), CertifyRamp)


def test_a_rule_with_limits_has_a_budget() -> None:
    def now() -> float:
        return 0.0

    slo = Slo((Limit("ttft_s", 2.0),))
    assert budget_of(None, now) is None
    assert budget_of(ClassicRule(2.0, 8), now) is None
    assert budget_of(CertifyRule(slo, 8), now) is None
    classic = budget_of(ClassicRule(2.0, 8, working_set_tokens_max=7, new_tokens_max=9), now)
    certify = budget_of(CertifyRule(slo, 8, new_tokens_max=9, period_s=10.0), now)
    assert classic is not None
    assert certify is not None
    assert classic.rule == BudgetRule(9, 7, 30.0)
    assert certify.rule == BudgetRule(9, 0, 10.0, waits=True)
