from dataclasses import replace
from io import StringIO

import pytest
from rich.console import Console

from kvproxy.core.disagg.choice import Mode, Terms
from kvproxy.core.disagg.connectors import Connector
from loadgen.demo import DemoSettings, demo_traces
from loadgen.engine_model import EngineLimits
from loadgen.schedule import Timing
from loadgen.simulate.disagg import disagg_table, run_disagg
from loadgen.simulate.run import Arm, Setup, Split, simulate, summarise

TRACES = demo_traces(DemoSettings(conversations=8, turns=4))
SETUP = Setup(
    8,
    2,
    limits=EngineLimits(hbm_tokens=400_000, block_size=64),
    timing=Timing(think_cap_s=5.0),
    output_tokens_max=100,
)


def played(split: Split | None):
    setup = replace(SETUP, disagg=split)
    return simulate(TRACES, setup, Arm.named("seconds"))


def test_every_request_is_answered_and_the_same_work_is_done() -> None:
    whole = played(None)
    apart = played(Split(Terms(Connector.NIXL, Mode.ALWAYS), 1))
    assert len(apart.samples) == len(whole.samples)
    assert {sample.replica for sample in apart.samples} == {1}, "the other one only prefills"
    assert all(0 <= s.cached <= s.prompt_tokens for s in apart.samples)
    assert all(s.first_token_at > s.asked_at for s in apart.samples)


def test_answers_do_not_stand_still_while_others_are_computed() -> None:
    whole = summarise(played(None), SETUP)
    apart = summarise(played(Split(Terms(Connector.NIXL, Mode.ALWAYS), 1)), SETUP)
    assert apart.itl_p99_s < whole.itl_p99_s


def test_a_pull_brings_what_another_replica_holds() -> None:
    outcome = played(Split(Terms(Connector.OFFLOADING, min_tokens=64, margin_s=0.0)))
    assert len(outcome.samples) == len(played(None).samples)


def test_table() -> None:
    said: list[str] = []
    cells = list(run_disagg(TRACES, SETUP, [4], [2], said.append))
    assert [list(cell.arms) for cell in cells] == [["whole", "split 1", "auto"]]
    assert cells[0].auto_over_best == pytest.approx(
        cells[0].arms["auto"].e2e_mean_s
        / min(arm.e2e_mean_s for name, arm in cells[0].arms.items() if name != "auto")
    )
    assert said == [f"4 conversations, 2 replicas, {name}" for name in cells[0].arms]
    console = Console(width=200, record=True, file=StringIO())
    console.print(disagg_table(cells))
    assert "auto / best" in console.export_text()
