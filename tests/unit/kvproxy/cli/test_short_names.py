import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvproxy.cli.short_names import short_names

PODS = [f"vllm-{n}.vllm.inference.svc.cluster.local:8000" for n in (0, 1, 10, 11)]


def test_names_that_fit_stay() -> None:
    assert short_names(["10.0.0.1:8000", "gpu-2:8000"], 20) == {
        "10.0.0.1:8000": "10.0.0.1:8000",
        "gpu-2:8000": "gpu-2:8000",
    }
    assert short_names([], 20) == {}


@pytest.mark.parametrize(
    ("names", "room", "shown"),
    [
        (PODS, 20, ["vllm-0", "vllm-1", "vllm-10", "vllm-11"]),
        (PODS, 6, ["0", "1", "10", "11"]),
        (["gpu-node-a-rack-7:8001", "gpu-node-a-rack-7:8002"], 12, ["8001", "8002"]),
        (["one-very-long-name-of-a-replica"], 12, ["one-v…eplica"]),
        (["eu.a-long-name.x", "us.a-long-name.x"], 9, ["eu", "us"]),
        (["eu.a-long-name", "us.another-one"], 9, ["eu.a…name", "us.a…-one"]),
        (["ab" + "x" * 40 + "1yz", "ab" + "x" * 40 + "2yz"], 12, ["abxxx…xxx1yz", "abxxx…xxx2yz"]),
        (["a" * 20 + "1" + "b" * 20, "a" * 20 + "2" + "b" * 20], 9, ["#1", "#2"]),
    ],
)
def test_they_are_short_and_told_apart(names: list[str], room: int, shown: list[str]) -> None:
    assert list(short_names(names, room).values()) == shown


@given(
    st.lists(st.text("ab1-.:", min_size=1, max_size=40), unique=True, max_size=30),
    st.integers(4, 30),
)
def test_any_names(names: list[str], room: int) -> None:
    shown = short_names(names, room)
    assert list(shown) == names
    assert len(set(shown.values())) == len(names)
    assert all(0 < len(name) <= room for name in shown.values())
