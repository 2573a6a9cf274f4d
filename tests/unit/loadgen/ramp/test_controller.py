from loadgen.ramp.certify import CertifyRamp, CertifyRule
from loadgen.ramp.classic import ClassicRamp, ClassicRule
from loadgen.ramp.controller import Controller, Note
from loadgen.ramp.slo import Limit, Slo


def test_controllers_begin_with_a_note_of_their_first_users() -> None:
    ramps: list[Controller] = [
        ClassicRamp(ClassicRule(2.0, 8, users_first=3)),
        CertifyRamp(CertifyRule(Slo((Limit("ttft_s", 2.0),)), 8, users_first=3)),
    ]
    for ramp in ramps:
        assert ramp.notes == [Note(0.0, 3, "start")]
        assert not ramp.done
        assert ramp.tick(0.5, [], []) == ramp.users == 3
