"""From a rule to the controller that follows it."""

from loadgen.ramp.certify import CertifyRamp, CertifyRule
from loadgen.ramp.classic import ClassicRamp, ClassicRule
from loadgen.ramp.controller import Controller

RampRule = ClassicRule | CertifyRule


def controller_of(rule: RampRule) -> Controller:
    return ClassicRamp(rule) if isinstance(rule, ClassicRule) else CertifyRamp(rule)
