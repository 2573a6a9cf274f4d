from pathlib import Path

import msgspec
import pytest
from hypothesis import given

from loadgen.traces.errors import TraceError
from loadgen.traces.load import load_traces
from loadgen.traces.model import SubAgent, Trace
from loadgen.traces.packed import pack, unpack, write_packed
from tests.support.shared import shared_path
from tests.support.traces import growing, random_traces, trace, turn


@given(random_traces())
def test_unpacking_gives_back_what_was_packed(made: Trace) -> None:
    assert unpack(pack(made), "f:1") == made


def test_sub_agents_and_times_are_kept() -> None:
    inner = SubAgent("s", 3.0, (turn(32, [90, 91], api_s=0.5), turn(48, [90, 91, 95])), 7, False)
    first = turn(64, [1, 2, 3, 4], think_s=1.5, t_s=2.0, tool_result=True)
    made = trace([first, inner, turn(16, [1])])
    assert unpack(pack(made), "f:1") == made


def test_real_traces_come_back_whole_and_are_small(tmp_path: Path) -> None:
    folder = shared_path("traces", "traces")
    traces = load_traces(folder)
    assert write_packed(traces, tmp_path / "all.jsonl") == len(traces)
    assert load_traces(tmp_path / "all.jsonl") == traces
    size = sum(file.stat().st_size for file in folder.iterdir())
    assert (tmp_path / "all.jsonl").stat().st_size < size / 100


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        (("packed",), 9, "packed format 9"),
        (("steps", 0, 7), 5, "damaged runs"),
        (("steps", 0, 8), [1], "damaged runs"),
        (("steps", 0, 8), [1, -4], "damaged runs"),
        (("steps", 0, 8), [1, 1 << 40], "blocks for 64 tokens"),
        (("steps", 0, 8), [(1 << 63) - 1, 4], "damaged runs"),
        (("steps",), [], "holds no request"),
        (("block_size",), 0, "block_size"),
    ],
)
def test_damage_is_named(path: tuple[str | int, ...], value: object, said: str) -> None:
    line = msgspec.json.decode(pack(growing("a", [64])))
    at = line
    for key in path[:-1]:
        at = at[key]
    at[path[-1]] = value
    with pytest.raises(TraceError, match=f"f:1: .*{said}"):
        unpack(msgspec.json.encode(line), "f:1")
