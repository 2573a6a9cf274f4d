import contextlib
from collections.abc import AsyncIterator

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from loadgen.probe import EndpointError
from loadgen.run_values import RunSettings
from loadgen.schedule import Timing
from loadgen.versus.arms import Contender, forget, play, turns
from tests.support.chat_mock import chat_mock
from tests.support.traces import growing

TRACES = [growing(f"t{n}", [64, 128]) for n in range(2)]


def test_every_repeat_begins_with_the_next_arm() -> None:
    order = turns(["a", "b", "c"], 3)
    assert [name for _, name in order] == ["a", "b", "c", "b", "c", "a", "c", "a", "b"]
    assert [repeat for repeat, _ in order] == [0, 0, 0, 1, 1, 1, 2, 2, 2]


async def test_arms_send_the_same_and_caches_are_emptied_before() -> None:
    resets: list[int] = []
    async with chat_mock() as first, chat_mock() as second:

        async def reset(request: web.Request) -> web.Response:
            resets.append(len(first.bodies) + len(second.bodies))
            return web.Response()

        app = web.Application()
        app.router.add_post("/reset_prefix_cache", reset)
        server = TestServer(app)
        await server.start_server()
        url = str(server.make_url("")).rstrip("/")

        @contextlib.asynccontextmanager
        async def at(url: str) -> AsyncIterator[str]:
            yield url

        arms = [Contender("a", lambda: at(first.url)), Contender("b", lambda: at(second.url))]
        told: list[tuple[int, str]] = []
        settings = RunSettings("", users=1, timing=Timing(think_scale=0.001, start_spread_s=0))
        results = await play(
            arms, settings, TRACES, lambda r, name, _: told.append((r, name)),
            repeats=2, reset=[url],
        )  # fmt: skip
        with pytest.raises(EndpointError, match=r"answered 404.*VLLM_SERVER_DEV_MODE=1"):
            await forget(first.url)
        await server.close()
    assert resets == [0, 4, 8, 12]
    assert told == [(0, "a"), (0, "b"), (1, "b"), (1, "a")]
    assert first.bodies == second.bodies
    assert first.bodies[0] != first.bodies[4], "each repeat has text of its own"
    assert [len(runs) for runs in results.values()] == [2, 2]
