import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadgen.traces.errors import TraceError
from loadgen.traces.model import SubAgent
from loadgen.traces.weka import parse_trace
from tests.support.traces import weka, weka_bytes


def requests(**fields: object) -> list[dict[str, object]]:
    """The two requests of `weka()`, the second with `fields` replaced (None: removed)."""
    first, second = weka()["requests"]  # type: ignore[misc]
    changed = {k: v for k, v in (second | fields).items() if v is not None}
    return [first, changed]


def test_reads_turns_with_times_and_types() -> None:
    trace = parse_trace(weka_bytes(), "f")
    first, second = trace.turns
    assert (trace.id, trace.block_size, trace.fixed_tokens) == ("trace_1", 64, 80)
    assert (first.input_tokens, list(first.blocks), first.think_s) == (130, [1, 2], 0.0)
    assert (second.think_s, second.api_s, second.tool_result) == (10.0, 1.0, True)
    assert not first.tool_result
    assert not trace.shared_ids


def test_accepts_an_id_for_the_partial_block_and_does_not_count_it() -> None:
    trace = parse_trace(weka_bytes(requests=requests(hash_ids=[1, 2, 3, 9])), "f")
    assert list(trace.turns[1].blocks) == [1, 2, 3]


def test_global_scope_means_ids_shared_between_traces() -> None:
    assert parse_trace(weka_bytes(hash_id_scope="global"), "f").shared_ids


@pytest.mark.parametrize(
    ("fields", "think_s"),
    [
        ({}, 10.0),
        # the end of the turn before is known: the gap minus its service time
        ({"think_time": None}, 10.0),
        ({"think_time": 4000.0}, 4000.0),
    ],
)
def test_think_time_when_the_service_time_before_is_known(
    fields: dict[str, object], think_s: float
) -> None:
    assert parse_trace(weka_bytes(requests=requests(**fields)), "f").turns[1].think_s == think_s


@pytest.mark.parametrize(("think_time", "think_s"), [(4000.0, 12.0), (3.0, 3.0), (None, 12.0)])
def test_without_service_time_the_gap_bounds_think_time(
    think_time: float | None, think_s: float
) -> None:
    both = requests(think_time=think_time)
    del both[0]["api_time"]
    assert parse_trace(weka_bytes(requests=both), "f").turns[1].think_s == think_s


def agent(**fields: object) -> dict[str, object]:
    inner = {"t": 0, "type": "n", "in": 64, "out": 1, "hash_ids": [7]}
    return {
        "type": "subagent", "t": 5, "agent_id": "a1", "status": "completed", "requests": [inner],
        "tool_tokens": 30, "system_tokens": 10, "duration_ms": None, "total_tokens": None,
    } | fields  # fmt: skip


def test_sub_agents_stand_where_they_were_started() -> None:
    first, second = requests()
    mixed = [first, agent(), agent(agent_id="a2", status="async_launched"), second]
    steps = parse_trace(weka_bytes(requests=mixed), "f").steps
    assert [type(step).__name__ for step in steps] == ["Turn", "SubAgent", "SubAgent", "Turn"]
    agents = [step for step in steps if isinstance(step, SubAgent)]
    assert [(a.agent_id, a.waits, a.fixed_tokens) for a in agents] == [
        ("a1", True, 40),
        ("a2", False, 40),
    ]


def test_a_sub_agent_called_twice_has_two_names() -> None:
    (first, second), again = requests(), agent(t=9)
    trace = parse_trace(weka_bytes(requests=[first, agent(), again, second]), "f")
    assert [a.agent_id for a in trace.sub_agents] == ["a1", "a1.2"]


def test_a_nested_sub_agent_runs_beside_its_own_parent() -> None:
    first, second = requests()
    outer = agent()
    outer["requests"] = [*outer["requests"], agent(agent_id="inner")]  # type: ignore[misc]
    trace = parse_trace(weka_bytes(requests=[first, outer, second]), "f")
    assert [a.agent_id for a in trace.sub_agents] == ["a1", "inner"]


def test_sub_agents_nested_without_end_are_refused() -> None:
    nested = agent()
    for _ in range(20):
        nested = agent(requests=[nested])
    with pytest.raises(TraceError, match="nested deeper"):
        parse_trace(weka_bytes(requests=[nested]), "f")


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "f: "),
        (b"not json", "f: "),
        (b"[]", "f: "),
        (b"\xff\xfe", "f: "),
        (b"[" * 100_000, "f: "),
        (b"{}", "requests"),
        (weka_bytes(requests=[]), "no request"),
        (weka_bytes(requests="x"), r"\$\.requests"),
        (weka_bytes(block_size=0), "block_size"),
        (weka_bytes(tool_tokens=-1), "tool_tokens"),
        (weka_bytes(hash_id_scope="else"), "hash_id_scope"),
        (weka_bytes(requests=requests(hash_ids=None)), r"requests\[1\].hash_ids is missing"),
        (weka_bytes(requests=requests(**{"in": None})), r"requests\[1\].in is missing"),
        (weka_bytes(requests=requests(**{"in": "9"})), "in"),
        (weka_bytes(requests=requests(hash_ids=[1])), "1 ids, but 200 tokens are 3 whole"),
        (weka_bytes(requests=requests(hash_ids=[1, 2, 2**70])), "hash_ids"),
        (weka_bytes(requests=requests(think_time=-5)), "think_time"),
        (weka_bytes(requests=requests(**{"in": 10**12})), "in"),
    ],
)
def test_errors_name_the_file_and_the_field(data: bytes, said: str) -> None:
    with pytest.raises(TraceError, match=r"^f: ") as caught:
        parse_trace(data, "f")
    assert caught.match(said)


@given(st.recursive(st.none() | st.booleans() | st.floats() | st.integers() | st.text(),
                    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)))  # fmt: skip
def test_any_json_is_read_or_refused(value: object) -> None:
    for data in (json.dumps(value), json.dumps(weka(requests=value)), json.dumps([value])):
        with contextlib.suppress(TraceError):
            parse_trace(data, "f")
