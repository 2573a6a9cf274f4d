import json
from dataclasses import replace

import pytest

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
    assert largest["unique blocks per trace"] == 30
    assert largest["infinite-cache hit per trace"] == 1 - 20 / 34
    assert largest["new tokens per turn"] == 160
    assert largest["think-only length s"] == 605
    assert largest["recorded span s"] == 90
    assert largest["tools + system tokens"] == 33
    assert largest["api s"] == 2


def test_traces_with_common_ids_hit_what_others_sent() -> None:
    alone = [growing("a", [160]), growing("b", [320])]
    assert inspect_traces(alone)["infinite_cache_hit"] == 0
    figures = inspect_traces([replace(one, shared_ids=True) for one in alone])
    assert figures["infinite_cache_hit"] == 10 / 30
    assert figures["unique_blocks"] == 20


def test_measures_without_values_are_left_out() -> None:
    rows = inspect_traces([growing("a", [8])])["quantiles"]
    assert isinstance(rows, dict)
    assert "infinite-cache hit per trace" not in rows


def test_changes_between_turns_are_counted() -> None:
    made = trace(
        [
            turn(160, range(1, 11)),
            turn(160, range(1, 11)),
            turn(176, [*range(1, 9), 20, 21, 22]),  # leaves two blocks
            turn(192, [*range(1, 11), 30, 31]),  # goes back to the first branch
            turn(64, [1, 40, 41, 42]),  # drops all but one block
        ]
    )
    figures = inspect_traces([made])
    assert figures["identical"] == 1
    assert figures["leaving_2_blocks_or_more"] == 3
    assert figures["returning_to_an_older_branch"] == 1
    assert figures["shrinking"] == 1
    assert figures["context_resets"] == 3
    rows = figures["quantiles"]
    assert isinstance(rows, dict)
    assert rows["tokens kept by a reset"][0] == 16


def test_real_traces_have_the_figures_of_their_manifest() -> None:
    listed = json.loads(shared_path("traces", "manifest.json").read_bytes())
    expected = {one["id"]: one for one in listed["traces"]}
    traces = load_traces(shared_path("traces", "traces"))
    assert {trace.id for trace in traces} == set(expected)
    for made in traces:
        figures, want = inspect_traces([made]), expected[made.id]
        rows = figures["quantiles"]
        assert isinstance(rows, dict)
        assert figures["requests"] == want["requests"]
        assert figures["sub_agents"] == want["subagents"]
        assert figures["sub_agent_requests"] == want["sub_requests"]
        assert figures["input_tokens"] == want["sum_in"]
        assert figures["output_tokens"] == want["sum_out"]
        assert figures["unique_blocks"] == want["unique_blocks"]
        assert figures["context_resets"] == want["pullbacks"]
        assert figures["infinite_cache_hit"] == pytest.approx(want["hit_inf_blocks"], abs=6e-5)
        assert rows["first prompt tokens"][0] == want["first_in"]
        assert rows["largest prompt tokens"][0] == want["max_in"]
        assert rows["recorded span s"][0] == want["span_s"]
        if not figures["without_api_time"]:  # otherwise recorded think times are not all believed
            capped = rows.get("think-only length s", [0])[0]
            assert capped == pytest.approx(want["think_capped600_s"], abs=1)
