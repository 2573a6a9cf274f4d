import asyncio

import pytest

from loadgen.force import until_over
from loadgen.session import Gate


async def test_the_end_is_that_of_the_users_or_of_the_time() -> None:
    for lasts_s, sleeps_s, why in ((None, 0.0, "traces played"), (0.01, 60.0, "duration over")):
        gate = Gate()
        users = asyncio.create_task(asyncio.sleep(sleeps_s))
        await until_over(users, gate, lasts_s=lasts_s, grace_s=0.01)
        assert gate.reason == why
        assert users.done()


async def test_what_the_users_raise_is_raised() -> None:
    async def fail() -> None:
        raise RuntimeError("bug")

    with pytest.raises(RuntimeError, match="bug"):
        await until_over(asyncio.create_task(fail()), Gate(), lasts_s=None, grace_s=0.0)
