"""Many at once: one after the other, and the loop goes on in between."""

import asyncio

import pytest

from kvproxy.adapters.http1 import turns as module
from kvproxy.adapters.http1.turns import Turns


async def test_nobody_waits_where_nobody_else_goes_on() -> None:
    turns = Turns()
    for _ in range(3):
        went_on = asyncio.create_task(turns.turn())
        await asyncio.sleep(0)
        assert went_on.done()
        await asyncio.sleep(0)


class Play:
    """Whose turn came in which turn of the loop, on a clock that only they move."""

    def __init__(self, count: int) -> None:
        self.turns = Turns()
        self.now = self.step = 0.0
        self.by_turn: list[list[int]] = [[]]
        self.tasks = [asyncio.create_task(self._go_on(number)) for number in range(count)]

    async def _go_on(self, number: int) -> None:
        await self.turns.turn()
        self.now += 0.0001
        self.by_turn[-1].append(number)

    @property
    def in_order(self) -> list[int]:
        return [number for went in self.by_turn for number in went]

    async def play(self) -> None:
        """Each turn of the loop takes `step` by itself."""
        while not all(task.done() for task in self.tasks):
            self.now += self.step
            self.by_turn.append([])
            await asyncio.sleep(0)


@pytest.fixture
def play(monkeypatch: pytest.MonkeyPatch) -> type[Play]:
    class Clocked(Play):
        def __init__(self, count: int) -> None:
            super().__init__(count)
            monkeypatch.setattr(module, "perf_counter", lambda: self.now)

    return Clocked


async def test_those_that_come_at_once_go_on_one_by_one(play: type[Play]) -> None:
    many = play(20)
    await many.play()
    assert [went for went in many.by_turn if went] == [[number] for number in range(20)]
    await asyncio.sleep(0)
    assert not many.turns._taken


@pytest.mark.parametrize(
    ("step_s", "at_once"), [(0.00001, 1), (0.00006, 2), (0.00011, 4), (1.0, 20)]
)
async def test_the_more_go_on_the_longer_all_else_takes(
    play: type[Play], step_s: float, at_once: int
) -> None:
    """Or a loop that is busy with chunks would let nobody begin."""
    many = play(100)
    many.step = step_s
    await many.play()
    went = [len(went) for went in many.by_turn if went]
    assert went[:2] == [1, 1]
    assert set(went[2:-1]) <= {at_once, at_once - 1}
    assert many.in_order == list(range(100))


async def test_who_is_cancelled_takes_nobodys_turn(play: type[Play]) -> None:
    many = play(6)
    await asyncio.sleep(0)
    for number in (1, 2, 5):
        many.tasks[number].cancel()
    await many.play()
    assert many.in_order == [0, 3, 4]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert not many.turns._taken
