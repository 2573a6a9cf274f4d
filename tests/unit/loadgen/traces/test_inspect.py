from loadgen.traces.inspect import inspect_traces, quantiles
from loadgen.traces.load import load_traces
from loadgen.traces.model import SubAgent
from tests.support.shared import shared_path
from tests.support.traces import growing, trace, turn


def test_quantiles_are_observed_values() -> None:
    assert quantiles(range(1, 101)) == [6, 26, 51, 76, 96, 100]
    assert quantiles([7]) == [7] * 6
    assert quantiles([]) is None


def test_figures_of_a_small_set() -> None:
    agent = SubAgent("s", 0.0, (turn(160, range(50, 60)),), 0)
    made = trace(
        [
            turn(160, range(1, 11), api_s=2.0),
            agent,
            turn(320, range(1, 21), think_s=700.0, t_s=30.0),
            turn(64, range(1, 5), think_s=5.0, t_s=90.0),
        ],
        fixed=33,
    )
    figures = inspect_traces([made])
    assert figures["requests"] == 3
    assert figures["sub_agents"] == 1
    assert figures["context_resets"] == 1
    assert figures["input_tokens"] == 544
    rows = figures["quantiles"]
    assert isinstance(rows, dict)
    largest = {name: values[-1] for name, values in rows.items()}
    assert largest["unique blocks per trace"] == 20
    assert largest["infinite-cache hit per trace"] == 1 - 20 / 34
    assert largest["new tokens per turn"] == 160
    assert largest["think-only length s"] == 605
    assert largest["recorded span s"] == 90
    assert largest["tools + system tokens"] == 33
    assert largest["api s"] == 2


def test_measures_without_values_are_left_out() -> None:
    rows = inspect_traces([growing("a", [8])])["quantiles"]
    assert isinstance(rows, dict)
    assert "infinite-cache hit per trace" not in rows


def test_real_traces_have_the_published_shape() -> None:
    figures = inspect_traces(load_traces(shared_path("traces", "traces")))
    rows = figures["quantiles"]
    assert isinstance(rows, dict)
    assert 0.93 < rows["infinite-cache hit per trace"][2] < 0.97
    assert 15 < float(str(figures["context_resets"])) < 60
