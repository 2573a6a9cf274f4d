from types import SimpleNamespace
from typing import Any

from kvproxy.ops.model_counters import ModelCounters

REPLICA = SimpleNamespace(models=("a", "b", *(f"m{n}" for n in range(1000))))


def record(model: str, *, placed: bool = True, passing: bool = False) -> Any:
    return SimpleNamespace(
        placement=SimpleNamespace(replica=REPLICA) if placed else None,
        identity=None if passing else SimpleNamespace(model=model),
        passing_model=model if passing else "",
        outcome="ok",
    )


def test_placed_requests_count_by_the_model_that_served_them() -> None:
    shown: list[Any] = []
    counters = ModelCounters(shown.append)
    assert shown == [counters.requests]
    for each in (
        record("a"),
        record("a", passing=True),
        record("b", placed=False),
        record(""),
        record("x"),
    ):
        counters.observe(each)
    assert counters.requests.by(0) == {"a": 2, "other": 1}


def test_names_beyond_the_bound_are_one() -> None:
    counters = ModelCounters(lambda collector: None)
    for n in range(1000):
        counters.observe(record(f"m{n}"))
    counters.observe(record("m0"))
    found = counters.requests.by(0)
    assert (len(found), found["other"], found["m0"]) == (201, 800, 2)
