"""When a client that waits is told so."""

import asyncio

from kvproxy.patience import Patience

TICK_S = 0.001


class Client:
    def __init__(self) -> None:
        self.comments = 0
        self.told = asyncio.Event()

    @property
    def held(self) -> bool:
        return self.comments > 0

    def hold(self) -> None:
        self.comments += 1
        if self.comments == 3:
            self.told.set()


async def test_it_is_told_again_and_again_until_the_block_ends() -> None:
    client = Client()
    with Patience(client, TICK_S) as patience:
        patience.begin()
        patience.begin()  # goes on, not twice as often
        await client.told.wait()
        patience.placed()
        assert patience._timer is not None
    assert patience._timer is None


async def test_nobody_is_told_by_default() -> None:
    with Patience(Client(), None) as patience:
        patience.begin()
        assert patience._timer is None


async def test_who_was_not_held_when_placed_gets_the_engines_own_head() -> None:
    client = Client()
    with Patience(client, 3600.0) as patience:
        patience.begin()
        assert patience._timer is not None
        patience.placed()
        assert patience._timer is None
    assert not client.held
