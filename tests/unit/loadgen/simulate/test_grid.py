from dataclasses import asdict, replace

import pytest

from loadgen.engine_model import EngineLimits
from loadgen.simulate.grid import Axes, Cell, grid_table, run_grid
from loadgen.simulate.run import Arm, Setup, simulate, summarise
from tests.support.traces import growing

TRACES = [growing(f"t{n}", [800, 880, 960]) for n in range(4)]
BASE = Setup(1, 1, limits=EngineLimits(block_size=16), warm_prefix_pct=0.0)


@pytest.fixture
def cells() -> list[Cell]:
    axes = Axes((2, 3), (1, 2), (1_600, 100_000))
    told: list[str] = []
    found = list(run_grid(TRACES, BASE, axes, ("round_robin", "seconds"), told.append))
    assert len(told) == 2 * 2 * (1 + 2 * 2)
    return found


def test_every_point_is_played(cells: list[Cell]) -> None:
    places = [(c.setup.conversations, c.setup.replicas, c.setup.limits.hbm_tokens) for c in cells]
    assert places == [(n, r, c) for n in (2, 3) for r in (1, 2) for c in (1_600, 100_000)]
    for cell in cells:
        assert cell.unlimited.hit_rate_reported >= cell.arms["seconds"].hit_rate_reported
        figures = cell.as_json()
        assert figures["hbm_tokens"] == cell.setup.limits.hbm_tokens


def test_the_table_has_a_row_for_each(cells: list[Cell]) -> None:
    table = grid_table(cells, ("round_robin", "seconds"))
    assert table.row_count == 8
    assert len(table.columns) == 6


def test_figures_are_means_over_seeds_and_maxima_are_of_all() -> None:
    axes = Axes((2,), (1,), (1_600,), seeds=3)
    (cell,) = run_grid(TRACES, BASE, axes, ("seconds",), str)
    runs = []
    for seed in (1, 2, 3):
        limits = replace(BASE.limits, hbm_tokens=1_600)
        setup = replace(BASE, conversations=2, limits=limits, seed=seed)
        runs.append(asdict(summarise(simulate(TRACES, setup, Arm.named("seconds")), setup)))
    arm = cell.arms["seconds"]
    assert arm.ttft_mean_s == pytest.approx(sum(run["ttft_mean_s"] for run in runs) / 3)
    assert arm.waited_max_s == max(run["waited_max_s"] for run in runs)
