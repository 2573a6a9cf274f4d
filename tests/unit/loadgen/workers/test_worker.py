from loadgen.workers.messages import Under
from loadgen.workers.worker import Reporter
from tests.support.samples import sample


def test_everything_is_reported_once_and_in_order() -> None:
    reporter = Reporter(follows=True)
    one = sample(turn=1, t_first_token=None)
    reporter.sent(one)
    first = reporter.report()
    assert ([s.turn for s in first.sent], first.ended) == ([1], [])
    one.t_first_token = 3.0
    assert reporter.report().under_way == [Under("c-1-0", "", 1, 3.0, 200)]
    assert reporter.report().under_way == []
    reporter.ended(one)
    last = reporter.report()
    assert (last.sent, [s.turn for s in last.ended]) == ([], [1])
    assert last.until >= first.until


def test_without_a_ramp_nobody_asks_about_requests_in_flight() -> None:
    reporter = Reporter(follows=False)
    reporter.sent(sample())
    assert reporter.report().under_way == []
