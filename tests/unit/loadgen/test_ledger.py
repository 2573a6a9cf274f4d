from loadgen.ledger import Ledger
from loadgen.run_values import Breaker, Progress
from loadgen.session import Gate
from tests.support.samples import sample


def ledger(breaker: Breaker) -> tuple[Ledger, Gate]:
    gate = Gate()
    return Ledger(Progress(0.0, 1), gate, breaker), gate


def end(kept: Ledger, turn: int, **fields: object) -> None:
    one = sample(turn=turn, **fields)
    kept.sent(one)
    assert kept.progress.in_flight == 1
    kept.ended(one)
    assert kept.progress.in_flight == 0


def test_only_failures_in_a_row_without_an_answer_end_a_run() -> None:
    kept, gate = ledger(Breaker(2))
    for turn, (status, error) in enumerate([(0, "connect"), (500, "http_5xx"), (0, "connect")]):
        end(kept, turn, status=status, error=error)
    end(kept, 8, status=0, error="cancelled")
    assert not gate.closed
    end(kept, 9, status=0, error="timeout")
    assert gate.reason == "endpoint lost"


def test_it_may_be_told_to_be_patient_or_never_to_end() -> None:
    for breaker in (Breaker(1, window_s=60.0), Breaker(0)):
        kept, gate = ledger(breaker)
        for turn in range(50):
            end(kept, turn, status=0, error="connect")
        assert not gate.closed


def test_failures_are_counted_as_they_come() -> None:
    kept, _ = ledger(Breaker(0))
    for turn, error in enumerate(("", "timeout", "cancelled", "aborted", "http_5xx")):
        end(kept, turn, status=0, error=error)
    assert kept.progress.failed == 2
