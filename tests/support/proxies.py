"""A proxy in the test's own event loop, and the proof that it holds nothing any more."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

from kvproxy.app import App, serving
from kvproxy.core.prefix_tree import PrefixTree
from kvproxy.core.runs import Run
from kvproxy.settings.model import Settings


class Running(NamedTuple):
    app: App
    url: str


@asynccontextmanager
async def proxied(urls: Sequence[object], **sections: Any) -> AsyncIterator[Running]:
    """`sections` are parts of the settings; the port is free and nothing is logged. No task of the
    proxy's dies unseen."""
    server = {"port": 0} | sections.pop("server", {})
    log = {"access": False} | sections.pop("log", {})
    tree = {"replicas": list(urls), "server": server, "log": log, **sections}
    loop, died = asyncio.get_running_loop(), list[dict[str, Any]]()
    loop.set_exception_handler(lambda _, context: died.append(context))
    try:
        async with serving(Settings.model_validate(tree)) as (app, url):
            yield Running(app, url)
    finally:
        loop.set_exception_handler(None)
    assert not died, "nobody saw these: " + repr(died)


async def eventually(check: Callable[[], bool | Awaitable[bool]], within_s: float = 10.0) -> None:
    """Returns as soon as `check` holds; fails when it does not in a generous time."""
    async with asyncio.timeout(within_s):
        while True:
            held = check()
            if held if isinstance(held, bool) else await held:
                return
            await asyncio.sleep(0.001)


def held(app: App) -> dict[str, tuple[int, int, float, int]]:
    """Replicas that something is still reserved on: in flight, waiting, seconds owed, pins."""
    found = {}
    for replica in app.router.replicas:
        load = replica.load
        state = (load.in_flight, len(load.waiting), load.waiting_s, pins(replica.hbm))
        if any(state):
            found[replica.id] = state
    if app.server.in_flight:
        found["server"] = (app.server.in_flight, 0, 0.0, 0)
    return found


async def settled(app: App) -> None:
    """Returns once nothing is reserved anywhere; names what is when that takes too long."""
    try:
        await eventually(lambda: not held(app))
    except TimeoutError:
        raise AssertionError(f"still held: {held(app)}") from None


def pins(tree: PrefixTree) -> int:
    runs: list[Run] = [tree._root]
    for run in runs:
        runs.extend(run.children.values())
    return sum(run.pins for run in runs)
