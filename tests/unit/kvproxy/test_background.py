import asyncio
import logging
from collections.abc import Callable, Coroutine

import pytest

from kvproxy import background
from kvproxy.background import failures, keep
from tests.support.proxies import eventually

Work = Callable[[], Coroutine[None, None, None]]


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(background, "_AGAIN_S", 0.001)
    failures.clear()


def failing(*errors: BaseException) -> tuple[Work, list[int]]:
    """Work that fails so, one time after the other, and then goes on; how often it began."""
    begun: list[int] = []

    async def work() -> None:
        begun.append(len(begun))
        if len(begun) <= len(errors):
            raise errors[len(begun) - 1]
        await asyncio.Event().wait()

    return work, begun


async def end(task: "asyncio.Task[None]") -> None:
    task.cancel()
    [ended] = await asyncio.gather(task, return_exceptions=True)
    assert isinstance(ended, asyncio.CancelledError)


async def test_what_fails_is_said_and_counted_and_begins_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    work, begun = failing(KeyError("nobody foresaw it"), asyncio.CancelledError())
    with caplog.at_level(logging.ERROR):
        task = keep("watching", work)
        await eventually(lambda: len(begun) == 3)
    assert failures == {"watching": 2}
    first, second = caplog.records
    assert first.message == "watching failed, and begins again in 0 s"
    assert first.exc_info is not None
    assert first.exc_info[0] is KeyError
    assert second.exc_info is not None
    await end(task)
    assert failures == {"watching": 2}, "who is told to end does not fail"


async def test_what_fails_each_time_waits_longer_and_longer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    slept: list[float] = []
    sleep = asyncio.sleep

    async def asleep(seconds: float) -> None:
        slept.append(seconds)
        await sleep(0)

    monkeypatch.setattr(background, "_AGAIN_MAX_S", 0.005)
    monkeypatch.setattr(asyncio, "sleep", asleep)
    work, begun = failing(*[OSError()] * 5)
    task = keep("watching", work)
    while len(begun) < 6:
        await sleep(0)
    assert slept == [0.001, 0.002, 0.004, 0.005, 0.005]
    await end(task)


async def test_work_that_is_done_is_not_begun_again() -> None:
    begun: list[None] = []

    async def work() -> None:
        begun.append(None)

    await asyncio.wait_for(keep("watching", work), 1)
    assert len(begun) == 1
    assert failures == {"watching": 0}


async def test_an_error_in_place_of_the_end_that_was_told_ends_it() -> None:
    """A library may turn being cut off into an error of its connection."""

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise ConnectionResetError from None

    task = keep("listening", work)
    await asyncio.sleep(0)
    task.cancel()
    [ended] = await asyncio.gather(task, return_exceptions=True)
    assert isinstance(ended, ConnectionResetError)
    assert failures == {"listening": 0}
