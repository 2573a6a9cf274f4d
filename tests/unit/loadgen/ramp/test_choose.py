from loadgen.ramp.certify import CertifyRamp, CertifyRule
from loadgen.ramp.choose import controller_of
from loadgen.ramp.classic import ClassicRamp, ClassicRule
from loadgen.ramp.slo import Limit, Slo


def test_a_rule_finds_its_controller() -> None:
    assert isinstance(controller_of(ClassicRule(2.0, 8)), ClassicRamp)
    certify = CertifyRule(Slo((Limit("ttft_s", 2.0),)), 8)
    assert isinstance(controller_of(certify), CertifyRamp)
