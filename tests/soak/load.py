"""Conversations in four dialects, as many at a time all along, and what came of every request."""

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from random import Random
from typing import Any

import aiohttp
import orjson

from kvproxy.core.errors import TWICE_LOST

PATHS = {
    "/v1/chat/completions": b"data: [DONE]\n\n",
    "/v1/completions": b"data: [DONE]\n\n",
    "/v1/messages": b"event: message_stop\n",
    "/v1/responses": b"event: response.completed\n",
}
_SHARED = "You are a careful engineer. " * 40


@dataclass
class Outcomes:
    """`whole`: answers that ended as they should; `told`: streams that were cut and said so.
    `twice`: given up after two replicas that ended under them, as they must be, since a request
    may be what ends replicas. `bad` are the others, each with what there is to say about it."""

    whole: int = 0
    told: int = 0
    twice: int = 0
    left: int = 0
    by_path: Counter[str] = field(default_factory=Counter)
    bad: list[str] = field(default_factory=list)

    def see(self, path: str, stream: bool, status: int, body: bytes) -> None:
        self.by_path[path] += 1
        if status in (502, 504) and TWICE_LOST.encode() in body:
            self.twice += 1
        elif status != 200:
            self.bad.append(f"{path} stream={stream}: {status} {body[:300]!r}")
        elif not stream:
            self.whole += 1
        elif b'"error"' in body[-1500:] and (b"event: error\n" in body or b'data: {"err' in body):
            self.told += 1
        elif PATHS[path] in body[-4000:]:
            self.whole += 1
        else:
            self.bad.append(f"{path} stream={stream}: no end in {body[-200:]!r}")


class Load:
    """`users` conversations at a time against `url`; every fifth answer is a plain one."""

    def __init__(self, url: str, users: int, seed: int) -> None:
        self._url = url
        self._users = users
        self._seed = seed
        self.outcomes = Outcomes()

    async def run(self, until: float) -> None:
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as client:
            users = (self._user(client, index, until) for index in range(self._users))
            await asyncio.gather(*users)

    async def _user(self, client: aiohttp.ClientSession, index: int, until: float) -> None:
        random, loop = Random(f"{self._seed}/{index}"), asyncio.get_running_loop()
        number = 0
        while loop.time() < until:
            number += 1
            path = random.choice(list(PATHS))
            said = [f"conversation {index}.{number}: {random.random()}"]
            for _ in range(random.randrange(1, 6)):
                if loop.time() < until:
                    await self._turn(client, path, f"{index}.{number}", said, random)
                    said += ["an answer " * 20, f"and then? {random.random()}"]
                    await asyncio.sleep(random.expovariate(4.0))

    async def _turn(
        self,
        client: aiohttp.ClientSession,
        path: str,
        session: str,
        said: list[str],
        random: Random,
    ) -> None:
        stream = random.random() < 0.8
        body = orjson.dumps(body_of(path, said, stream, random.randrange(1, 60)))
        headers = {"content-type": "application/json", "x-session-id": session}
        leaves_s = random.expovariate(5.0) if random.random() < 0.05 else None
        try:
            async with asyncio.timeout(leaves_s):
                url = self._url + path
                async with client.post(url, data=body, headers=headers) as response:
                    got = await response.read()
        except TimeoutError:
            self.outcomes.left += 1
        except aiohttp.ClientError as error:
            if stream or "payload" not in str(error).lower():
                self.outcomes.bad.append(f"{path} stream={stream}: {type(error).__name__} {error}")
            else:
                # A plain answer that broke off after its head shows it by its length.
                self.outcomes.told += 1
        else:
            self.outcomes.see(path, stream, response.status, got)


def body_of(path: str, said: list[str], stream: bool, tokens: int) -> dict[str, Any]:
    common: dict[str, Any] = {"model": "m", "stream": stream}
    turns = [
        {"role": "assistant" if index % 2 else "user", "content": text}
        for index, text in enumerate(said)
    ]
    match path:
        case "/v1/completions":
            return common | {"prompt": _SHARED + "\n".join(said), "max_tokens": tokens}
        case "/v1/messages":
            return common | {"system": _SHARED, "messages": turns, "max_tokens": tokens}
        case "/v1/responses":
            return common | {"instructions": _SHARED, "input": turns, "max_output_tokens": tokens}
    system = {"role": "system", "content": _SHARED}
    return common | {"messages": [system, *turns], "max_tokens": tokens}
