from io import StringIO

from rich.console import Console

from loadgen.engine_model import EngineLimits
from loadgen.schedule import Timing
from loadgen.simulate.compare import compare, table
from loadgen.simulate.run import Setup
from tests.support.traces import growing

TRACES = [growing(f"t{n}", [400, 440, 480]) for n in range(4)]
LIMITS = EngineLimits(hbm_tokens=16_000, block_size=16)
SETUP = Setup(2, 2, limits=LIMITS, timing=Timing(), warm_prefix_pct=0.0)


def test_arms_stand_beside_the_bounds_they_cannot_beat() -> None:
    told: list[str] = []
    found = compare(TRACES, SETUP, ["seconds", "round_robin"], told.append)
    assert told[1:] == ["seconds", "round_robin"]
    for arm in found.arms.values():
        assert arm.hit_rate_reported <= found.bounds.infinite
    assert found.bounds.offline_min <= found.bounds.infinite


def test_json_has_the_shape_of_every_comparing_command() -> None:
    found = compare(TRACES, SETUP, ["seconds"], lambda _: None).as_json()
    arms = found["arms"]
    assert isinstance(arms, list)
    shape = {"policy", "requests", "hit_rate_predicted", "hit_rate_reported", "hit_rate_bound"}
    assert shape | {"ttft_mean_s", "ttft_p50_s", "ttft_p95_s"} <= arms[0].keys()


def test_the_table_names_every_arm() -> None:
    console = Console(width=150, file=StringIO(), record=True)
    console.print(table(compare(TRACES, SETUP, ["seconds", "random"], lambda _: None)))
    text = console.export_text()
    assert "seconds" in text
    assert "random" in text
    assert "offline MIN" in text
