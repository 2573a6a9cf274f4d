import pytest

from loadgen.engine_model import EngineLimits
from loadgen.simulate import grid
from loadgen.simulate.grid import Cell, grid_table, run_grid
from loadgen.simulate.run import Setup
from tests.support.traces import growing

TRACES = [growing(f"t{n}", [800, 880, 960]) for n in range(4)]


@pytest.fixture
def cells(monkeypatch: pytest.MonkeyPatch) -> list[Cell]:
    monkeypatch.setattr(grid, "CONVERSATIONS", (2, 3))
    monkeypatch.setattr(grid, "REPLICAS", (1, 2))
    monkeypatch.setattr(grid, "HBM_TOKENS", (1_600, 100_000))
    base = Setup(1, 1, limits=EngineLimits(block_size=16), warm_prefix_pct=0.0)
    told: list[str] = []
    found = list(run_grid(TRACES, base, ("round_robin", "seconds"), told.append))
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
