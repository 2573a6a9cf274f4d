"""The synthetic set against the published table and, where they are present, real traces."""

from functools import cache
from pathlib import Path
from random import Random

import orjson
import pytest

from loadgen.traces import synth
from loadgen.traces.inspect import inspect_traces
from loadgen.traces.load import load_traces
from loadgen.traces.model import Trace
from loadgen.traces.synth import draw, synthesise, write_traces
from loadgen.traces.weka import parse_trace
from tests.support.shared import shared_path

# p25, p50, p75 of 710 recorded sessions, and the factor by which a set of 120 may miss each.
PUBLISHED: dict[str, tuple[tuple[float, float, float], float]] = {
    "requests per trace": ((18, 45, 94), 1.6),
    "first prompt tokens": ((18.6e3, 24.5e3, 104e3), 1.7),
    "largest prompt tokens": ((112e3, 148e3, 186e3), 2.0),
    "tokens in per trace": ((1.6e6, 5.1e6, 10.6e6), 2.2),
    "unique blocks per trace": ((1952, 3262, 5800), 2.0),
    "input tokens": ((68e3, 105e3, 139e3), 1.4),
    "new tokens per turn": ((320, 704, 1.7e3), 1.3),
    "output tokens": ((137, 216, 429), 1.15),
    "think s": ((6, 10, 34), 1.25),
    "api s": ((4.3, 6.1, 10.3), 1.15),
    "think-only length s": ((921, 2285, 4975), 1.8),
    "tools + system tokens": ((12.9e3, 14.9e3, 15.5e3), 1.15),
    "infinite-cache hit per trace": ((0.919, 0.956, 0.972), 1.03),
}
# Thirty real traces are a small sample of their own.
REAL_SLACK = 1.5


@cache
def synthetic() -> dict[str, list[float]]:
    traces = [parse_trace(orjson.dumps(trace), "synth") for trace in synthesise(120, seed=1)]
    return rows_of(traces)


def rows_of(traces: list[Trace]) -> dict[str, list[float]]:
    rows = inspect_traces(traces)["quantiles"]
    assert isinstance(rows, dict)
    return rows


@pytest.mark.parametrize("name", PUBLISHED)
def test_quartiles_are_the_published_ones(name: str) -> None:
    published, factor = PUBLISHED[name]
    for made, expected in zip(synthetic()[name][1:4], published, strict=True):
        assert expected / factor <= made <= expected * factor


def test_quartiles_are_those_of_real_traces() -> None:
    real = rows_of(load_traces(shared_path("traces", "traces")))
    for name, (_, factor) in PUBLISHED.items():
        slack = factor if name == "infinite-cache hit per trace" else factor * REAL_SLACK
        for made, recorded in zip(synthetic()[name][1:4], real[name][1:4], strict=True):
            assert recorded / slack <= made <= recorded * slack, name


def test_equal_seeds_give_equal_files(tmp_path: Path) -> None:
    files = [
        write_traces(2, seed, tmp_path / name) for seed, name in ((1, "a"), (1, "b"), (2, "c"))
    ]
    a, b, c = ([file.read_bytes() for file in written] for written in files)
    assert a == b
    assert a != c
    assert len(load_traces(tmp_path / "a")) == 2


def test_sets_have_resets_and_sub_agents(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(synth, "SUB_AGENTS_SHARE", 0.3)
    traces = [parse_trace(orjson.dumps(trace), "synth") for trace in synthesise(40, seed=3)]
    figures = inspect_traces(traces)
    requests = int(str(figures["requests"]))
    assert 0.005 < int(str(figures["context_resets"])) / requests < 0.04
    shared = [trace.sub_agents for trace in traces if len(trace.sub_agents) > 1]
    assert 4 <= len(shared) <= 20
    first, second = shared[0][:2]
    common = first.turns[0].blocks.common_prefix(second.turns[0].blocks)
    assert common == first.fixed_tokens // synth.BLOCK_SIZE


def test_draw_meets_its_quantiles() -> None:
    random = Random(1)
    values = sorted(draw(synth.OUTPUT, random) for _ in range(20_000))
    for q, expected in synth.OUTPUT[1:-1]:
        assert values[int(q * len(values))] == pytest.approx(expected, rel=0.08)
    assert synth.OUTPUT[0][1] <= values[0]
    assert values[-1] <= synth.OUTPUT[-1][1]
