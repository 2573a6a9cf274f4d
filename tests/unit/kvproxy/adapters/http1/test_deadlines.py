import asyncio
import math

from kvproxy.adapters.http1.deadlines import Deadlines


class Waiting:
    def __init__(self, deadline: float) -> None:
        self.deadline = deadline
        self.late = asyncio.Event()

    def expired(self) -> None:
        self.late.set()


async def test_those_whose_time_has_come_are_told_and_no_others() -> None:
    loop = asyncio.get_running_loop()
    early, later, never = Waiting(loop.time() + 0.02), Waiting(loop.time() + 60), Waiting(math.inf)
    deadlines = Deadlines(0.05)
    deadlines.members |= {early, later, never}
    deadlines.start()
    await early.late.wait()
    assert loop.time() >= early.deadline
    later.deadline = loop.time()
    await later.late.wait()
    deadlines.stop()
    assert not never.late.is_set()


def test_looks_are_neither_too_many_nor_too_few() -> None:
    assert [Deadlines(s)._interval_s for s in (0.001, 0.4, 600.0)] == [0.01, 0.1, 1.0]
