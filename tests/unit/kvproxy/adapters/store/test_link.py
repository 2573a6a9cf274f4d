import asyncio
import contextlib
import logging

import pytest

from kvproxy.adapters.store.link import FAILURES, Address, Link, end
from tests.support.valkey import valkey


async def test_up_down_and_up_again_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "kvproxy.store")
    changes: list[bool] = []
    async with valkey() as server:
        link = Link(Address(server.url), changes.append)
        assert not link.up
        await link.open()
        await link.open()
        assert await link.ask(("PING",), 5.0)
        await server.kill()
        for _ in range(3):
            with pytest.raises(FAILURES):
                await link.ask(("PING",), 5.0)
        await server.start()
        await link.open()
        assert await link.send([("SET", "a", 1), ("GET", "a"), ("BAD",)]) != []
        await link.close()
    assert changes == [True, False, True]
    assert sum("is not there" in record.message for record in caplog.records) == 1


async def test_three_late_answers_in_a_row_and_nobody_asks_any_more() -> None:
    async with valkey() as server:
        link = Link(Address(server.url), lambda _: None)
        await link.open()
        server.pause(on=True)
        ups = []
        for _ in range(3):
            with pytest.raises(TimeoutError):
                await link.ask(("PING",), 0.01)
            ups.append(link.up)
        server.pause(on=False)
        assert ups == [True, True, False]
        await link.close()


async def test_a_wrong_password_is_told() -> None:
    async with valkey() as server:
        link = Link(Address(server.url, "nobody", "wrong"), lambda _: None)
        with pytest.raises(FAILURES, match=r"(?i)password"):
            await link.open()
        await link.close()


async def test_tasks_that_take_the_end_for_a_fault_end_all_the_same() -> None:
    async def stubborn() -> None:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(60)
        await asyncio.sleep(60)

    tasks = [asyncio.create_task(stubborn()), asyncio.create_task(asyncio.sleep(0))]
    await asyncio.sleep(0.01)
    await end(tasks)
    assert all(task.done() for task in tasks)
    await end(tasks)
