"""Many at once: one after the other, and the loop goes on in between."""

import asyncio

import pytest

from kvproxy.adapters.http1 import turns as module
from kvproxy.adapters.http1.turns import Turns


async def test_nobody_waits_where_nobody_else_goes_on() -> None:
    turns = Turns()
    for _ in range(3):
        went_on = asyncio.create_task(turns.turn(answer=False))
        await asyncio.sleep(0)
        assert went_on.done()
        await asyncio.sleep(0)


ANSWERS_FROM = 1000


class Play:
    """Whose turn came in which turn of the loop, on a clock that only they move."""

    def __init__(self, *numbers: int) -> None:
        self.turns = Turns()
        self.now = self.step = 0.0
        self.by_turn: list[list[int]] = [[]]
        self.tasks = [asyncio.create_task(self._go_on(number)) for number in numbers]

    async def _go_on(self, number: int) -> None:
        await self.turns.turn(answer=number >= ANSWERS_FROM)
        self.now += 0.0002
        self.by_turn[-1].append(number)

    @property
    def in_order(self) -> list[int]:
        return [number for went in self.by_turn for number in went]

    async def play(self) -> None:
        """Each turn of the loop takes `step` by itself, for what came of sockets."""
        loop = asyncio.get_running_loop()

        def others() -> None:
            self.now += self.step

        while not all(task.done() for task in self.tasks):
            self.by_turn.append([])
            loop.call_soon(others)
            await asyncio.sleep(0)


@pytest.fixture
def play(monkeypatch: pytest.MonkeyPatch) -> type[Play]:
    class Clocked(Play):
        def __init__(self, *numbers: int) -> None:
            super().__init__(*numbers)
            monkeypatch.setattr(module, "thread_time", lambda: self.now)

    return Clocked


async def test_those_that_come_at_once_go_on_one_by_one(play: type[Play]) -> None:
    many = play(*range(20))
    await many.play()
    assert [went for went in many.by_turn if went] == [[number] for number in range(20)]
    await asyncio.sleep(0)
    assert not many.turns._taken


@pytest.mark.parametrize(
    ("step_s", "at_once"), [(0.00001, 1), (0.00011, 2), (0.00021, 4), (1.0, 5)]
)
async def test_the_more_go_on_the_longer_all_else_takes(
    play: type[Play], step_s: float, at_once: int
) -> None:
    """Or a loop that is busy with chunks would let nobody begin."""
    many = play(*range(100))
    many.step = step_s
    await many.play()
    went = [len(went) for went in many.by_turn if went]
    assert went[:2] == [1, 1]
    assert set(went[2:-1]) <= {at_once, at_once - 1}
    assert many.in_order == list(range(100))


async def test_who_is_cancelled_takes_nobodys_turn(play: type[Play]) -> None:
    many = play(*range(6))
    await asyncio.sleep(0)
    for number in (1, 2, 5):
        many.tasks[number].cancel()
    await many.play()
    assert many.in_order == [0, 3, 4]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert not many.turns._taken


async def test_answers_go_before_requests(play: type[Play]) -> None:
    many = play(0, 1, 1000, 2, 1001)
    await many.play()
    assert many.in_order == [0, 1000, 1001, 1, 2]
