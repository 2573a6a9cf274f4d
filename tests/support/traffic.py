"""A proxy with some conversations behind it, for views that want something to show."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import aiohttp

from loadgen.emulator import EmulatorSettings, emulated
from tests.support.proxies import Running, proxied

FLEET = EmulatorSettings(hbm_tokens=20_000, dram_tokens=40_000, prefill_tok_s=200_000)


@asynccontextmanager
async def busy_proxy(replicas: int = 3, named: str = "", **sections: Any) -> AsyncIterator[Running]:
    """Its view was asked for before, so that decisions are kept. `named`: ids of replicas, with
    {n} in them."""
    lmcache = {"dram_tokens": 40_000}
    async with emulated(FLEET, replicas) as urls, AsyncExitStack() as stack:
        listed: list[object] = [*urls]
        if named:
            listed = [{"url": url, "id": named.format(n=n)} for n, url in enumerate(urls)]
        running = await stack.enter_async_context(proxied(listed, lmcache=lmcache, **sections))
        await running.app.live.page("")
        await talk(running.url, range(1, 4))
        yield running


async def talk(url: str, turns: Iterable[int], key: str = "") -> None:
    """The same turns of six conversations."""
    headers = {"authorization": f"Bearer {key}"} if key else {}
    async with aiohttp.ClientSession(headers=headers) as session:
        for turn in turns:
            await asyncio.gather(*(_turn(session, url, name, turn) for name in range(6)))


async def _turn(session: aiohttp.ClientSession, url: str, name: int, turn: int) -> None:
    text = f"conversation {name}: " + "what was said " * 300
    messages = [{"role": "user", "content": text}]
    for _ in range(turn - 1):
        messages += [{"role": "assistant", "content": "Yes."}, {"role": "user", "content": "And?"}]
    stream = {"stream": True, "stream_options": {"include_usage": True}}
    body = {"model": "emu", "messages": messages, "max_tokens": 4, **stream}
    headers = {"x-session-id": f"secret-session-{name}"}
    target = f"{url}/v1/chat/completions"
    async with session.post(target, json=body, headers=headers) as answer:
        await answer.read()
        assert answer.status == 200
