"""What makes each alert of deploy/prometheus fire, with real proxies and emulated replicas."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import aiohttp

from loadgen.emulator.fleet import Listener

WORDS = "what was said of it before "
# Refusals and lost connections are what some of these are for.
_EXPECTED = (aiohttp.ClientError, TimeoutError)


async def chat(
    client: aiohttp.ClientSession, url: str, messages: list[Any], *, session: str = "", **more: Any
) -> int:
    """The status; 0 where there was no answer."""
    body = {"model": "emu", "messages": messages, "max_tokens": 4, **more}
    headers = {"x-session-id": session} if session else {}
    try:
        async with client.post(f"{url}/v1/chat/completions", json=body, headers=headers) as answer:
            await answer.read()
            return answer.status
    except _EXPECTED:
        return 0


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


async def refused(client: aiohttp.ClientSession, url: str) -> None:
    await chat(client, url, [user("anybody there?")])


async def mistaken(client: aiohttp.ClientSession, url: str) -> None:
    """No JSON: what a client does wrong is no error of ours."""
    headers = {"content-type": "application/json"}
    try:
        async with client.post(f"{url}/v1/chat/completions", data=b"{", headers=headers) as answer:
            await answer.read()
    except _EXPECTED:
        pass


async def forgotten(client: aiohttp.ClientSession, url: str) -> None:
    """The same long prompt again, which the replica's cache does not find."""
    await chat(client, url, [user(WORDS * 200)], session="same")


def losing(listener: Listener, numbers: Iterator[int]) -> Any:
    """A batch of events is not sent, and the next request shows it."""

    async def lose(client: aiohttp.ClientSession, url: str) -> None:
        assert listener.publisher is not None
        listener.publisher.drop_next = 1
        for _ in range(2):
            await chat(client, url, [user(f"{next(numbers)} {WORDS * 40}")])

    return lose


def waiting(numbers: Iterator[int]) -> Any:
    """More prefill at once than the replica computes in a while."""

    async def wait(client: aiohttp.ClientSession, url: str) -> None:
        text = WORDS * 400
        await asyncio.gather(*(chat(client, url, [user(f"{next(numbers)} {text}")])
                               for _ in range(12)))  # fmt: skip

    return wait


def cold(numbers: Iterator[int]) -> Any:
    """Prompts that nobody sent before."""

    async def miss(client: aiohttp.ClientSession, url: str) -> None:
        text = WORDS * 300
        await asyncio.gather(*(chat(client, url, [user(f"{next(numbers)} {text}")])
                               for _ in range(4)))  # fmt: skip

    return miss


def reworded(numbers: Iterator[int]) -> Any:
    """A conversation whose tools change their spelling and whose history is then edited."""

    async def reword(client: aiohttp.ClientSession, url: str) -> None:
        session = f"reworded {next(numbers)}"
        history = [user(f"{session} {WORDS * 100}")]
        for edited in (False, False, True):
            properties = {"path": {"type": "string"}, "line": {"type": "integer"}}
            shown = properties if len(history) % 4 == 1 else dict(reversed(properties.items()))
            tool = {"name": "read", "parameters": {"type": "object", "properties": shown}}
            if edited:
                history[2] = user("Something else then: " + WORDS * 20)
            tools = [{"type": "function", "function": tool}]
            await chat(client, url, history, session=session, tools=tools)
            history += [{"role": "assistant", "content": "Yes."}, user(WORDS * 100)]

    return reword


Plant = Callable[[aiohttp.ClientSession, str], Awaitable[None]]


async def again_and_again(plant: Plant, url: str, pause_s: float) -> None:
    """Until it is cancelled."""
    async with aiohttp.ClientSession() as client:
        while True:
            await plant(client, url)
            await asyncio.sleep(pause_s)
