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


ANSWERS_FROM = 1000


class Play:
    """Whose turn came in which turn of the loop, on a clock that only they move: by `took` each,
    which is more than half a step."""

    def __init__(self, *numbers: int) -> None:
        self.turns = Turns()
        self.now = self.step = 0.0
        self.took = 0.0006
        self.by_turn: list[list[int]] = [[]]
        self.tasks = [asyncio.create_task(self._go_on(number)) for number in numbers]

    async def _go_on(self, number: int) -> None:
        if number < ANSWERS_FROM:
            await self.turns.turn()
        else:
            waiter = asyncio.get_running_loop().create_future()
            self.turns.wake(waiter, answer=True)
            await waiter
        self.now += self.took
        self.by_turn[-1].append(number)

    @property
    def in_order(self) -> list[int]:
        return [number for went in self.by_turn for number in went]

    @property
    def at_once(self) -> list[int]:
        return [len(went) for went in self.by_turn if went]

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


@pytest.mark.parametrize(("took_s", "at_once"), [(0.002, 1), (0.0004, 2), (0.00022, 4), (1e-9, 5)])
async def test_as_many_go_on_as_fit_into_a_step(
    play: type[Play], took_s: float, at_once: int
) -> None:
    many = play(*range(100))
    many.took = took_s
    await many.play()
    assert many.at_once[:2] == [1, 1]
    assert set(many.at_once[2:-1]) == {at_once}
    assert many.in_order == list(range(100))


async def test_the_more_go_on_the_longer_all_else_takes(play: type[Play]) -> None:
    """Or a loop that is busy with chunks would let nobody begin."""
    many = play(*range(100))
    many.step = 0.02
    await many.play()
    assert many.at_once[:2] == [1, 1]
    assert all(went in (16, 17) for went in many.at_once[2:-1])
    assert many.in_order == list(range(100))


async def test_what_answers_take_says_nothing_of_requests(play: type[Play]) -> None:
    many = play(*range(1000, 1040), *range(40))
    many.took = 0.0001
    while len(many.in_order) < 40:
        many.by_turn.append([])
        await asyncio.sleep(0)
    many.took = 0.0006
    await many.play()
    assert many.in_order == [*range(1000, 1040), *range(40)]
    assert [went for went in many.by_turn if went and went[0] < 40] == [[n] for n in range(40)]


async def test_who_is_cancelled_takes_nobodys_turn(play: type[Play]) -> None:
    many = play(*range(6))
    await asyncio.sleep(0)
    for number in (1, 2, 5):
        many.tasks[number].cancel()
    await many.play()
    assert many.in_order == [0, 3, 4]
    for _ in range(3):
        await asyncio.sleep(0)
    assert not many.turns._taken


async def test_where_all_who_wait_are_cancelled_the_next_one_goes_on_at_once(
    play: type[Play],
) -> None:
    many = play(*range(4))
    await asyncio.sleep(0)
    for task in many.tasks:
        task.cancel()
    await many.play()
    for _ in range(3):
        await asyncio.sleep(0)
    await asyncio.wait_for(many.turns.turn(), 1.0)
    assert many.in_order == [0]


async def test_a_body_that_came_later_takes_its_turn_behind_those_before_it(
    play: type[Play],
) -> None:
    many = play(*range(4))
    await asyncio.sleep(0)
    waiter = asyncio.get_running_loop().create_future()
    waiter.add_done_callback(lambda _: many.by_turn[-1].append(9))
    many.turns.wake(waiter, answer=False)
    await many.play()
    await asyncio.wait_for(waiter, 1.0)
    await asyncio.sleep(0)
    assert many.in_order == [0, 1, 2, 3, 9]


async def test_answers_go_before_requests(play: type[Play]) -> None:
    many = play(0, 1, 1000, 2, 1001)
    await many.play()
    assert many.in_order == [0, 1000, 1001, 1, 2]


async def test_where_nothing_streams_for_long_nobody_waits(play: type[Play]) -> None:
    many = play(*range(300))
    await many.play()
    assert sorted(many.in_order) == list(range(300))
    # Those beyond the 256th went on in one turn of the loop.
    assert max(many.at_once) >= 44
    waiter = asyncio.get_running_loop().create_future()
    many.turns.wake(waiter, answer=True)
    assert waiter.done()
    # Bodies that come in several reads ask for no turn of their own.
    many.turns.streams = 1
    begins = asyncio.get_running_loop().create_future()
    many.turns.wake(begins, answer=False)
    assert begins.done()
    first, second = (asyncio.get_running_loop().create_future() for _ in range(2))
    many.turns.wake(first, answer=True)
    assert not first.done(), "somebody went on in this turn of the loop"
    many.turns.wake(second, answer=True)
    await asyncio.wait_for(asyncio.gather(first, second), 1.0)
