import pytest

from kvproxy.admin.doctor.check_engine import check
from kvproxy.admin.doctor.facts import Fleet
from kvproxy.admin.doctor.finding import Severity
from tests.support.doctor import codes, well

CONNECTED = {"lmcache:num_hit_tokens_total": 1.0}


@pytest.mark.parametrize(
    ("facts", "code"),
    [
        ({"trouble": "http://r: refused"}, "replica_unreachable"),
        ({"trouble": "http://r:8401: refused"}, "replica_unreachable"),
        ({"trouble": "/v1/models answered 401"}, "replica_key"),
        ({"asleep": True}, "asleep"),
        ({"models": ()}, "no_model"),
        ({"skew_s": -5.0}, "clock_skew"),
        ({"idle_closed_s": 1.0}, "keep_alive"),
        ({"version": (0, 19, 1), "tensor_parallel": 8, "counters": CONNECTED}, "tensor_parallel"),
    ],
)
def test_what_is_wrong(facts: dict[str, object], code: str) -> None:
    assert codes(list(check(Fleet([well(**facts)])))) == {code}


@pytest.mark.parametrize(
    "facts",
    [
        {},
        {"skew_s": 1.0},
        {"idle_closed_s": 5.0},
        {"version": (0, 20, 0), "tensor_parallel": 8, "counters": CONNECTED},
        {"version": (0, 19, 0), "tensor_parallel": 4, "counters": CONNECTED},
        {"version": (0, 19, 0), "tensor_parallel": 8},
    ],
)
def test_what_is_not(facts: dict[str, object]) -> None:
    assert list(check(Fleet([well(**facts)]))) == []


def test_a_large_skew_is_graver() -> None:
    [small] = check(Fleet([well(skew_s=3.0)]))
    [large] = check(Fleet([well(skew_s=90.0)]))
    assert (small.severity, large.severity) == (Severity.NOTE, Severity.WARNING)


def test_other_models_on_other_replicas() -> None:
    [found] = check(Fleet([well(), well("r1", models=("other",))]))
    assert (found.code, found.severity) == ("models_differ", Severity.NOTE)
