"""`python -m tests.soak.objects`: no more objects live after 20,000 requests than after 2,000.

What memory of a process tells in minutes, the count of its objects tells in seconds, and surely:
conversations in four dialects that end in all ways, as fast as they can be sent, replicas that come
and go, and bounds that are full before the first count.
"""

import argparse
import asyncio
import gc
import sys
from dataclasses import dataclass
from random import Random

import orjson

from kvproxy.settings.replica import ReplicaSettings
from tests.soak.bounds import SMALL
from tests.soak.load import PATHS, body_of
from tests.support.proxies import Running, eventually, proxied, settled
from tests.support.recording import Answer, Mark, Received, RecordingReplica, answer, recording
from tests.support.wire import connected, post, read_answer, request

# Counts vary by what happens to be kept where bounds are in bytes; one object of every tenth
# request would be a leak.
GROWS = 0.1
_SETTINGS = {
    "log": {"level": "error"},
    # Prompts are short here, and every replica's tree is to be full soon.
    "index": {"anchors_max": 300, "hbm_tokens_default": 1_500},
    # How many connections rest is chance; none do when objects are counted.
    "upstream": {"keepalive_s": 0.2},
}
_SSE = [(b"content-type", b"text/event-stream")]


@dataclass(frozen=True)
class Found:
    before: int
    after: int
    requests: int

    @property
    def a_request(self) -> float:
        return (self.after - self.before) / self.requests

    @property
    def grows(self) -> bool:
        return self.a_request > GROWS

    def __str__(self) -> str:
        verdict = "GROWS" if self.grows else "does not grow"
        return (
            f"{self.before} objects, and {self.after} after {self.requests} more requests: "
            f"{self.a_request:+.3f} a request, {verdict} (bound: {GROWS:g})"
        )


class Engine:
    """Answers as one of four, and ends as it should not every now and then."""

    def __init__(self, replica: RecordingReplica, random: Random) -> None:
        self._replica, self._random = replica, random
        self._number = 0
        replica.script = self.script

    def script(self, received: Received) -> Answer:
        self._replica.received.clear()
        self._number += 1
        chance = self._random.random()
        if chance < 0.03:
            return [Mark.CUT]
        if chance < 0.05:
            return answer(b'{"error":"no"}', status="500 Internal Server Error")
        if not received.body:
            return answer(b"{}", status="404 Not Found")
        body = orjson.loads(received.body)
        if not body.get("stream"):
            return answer(_whole(received.target, self._number, len(received.body) // 4))
        parts = _events(received.target, self._number, len(received.body) // 4)
        pieces = answer(b"".join(parts), headers=_SSE, chunk=200, chunked=True)
        return [*pieces[:2], Mark.CUT] if chance < 0.08 else pieces


def _whole(path: str, number: int, tokens: int) -> bytes:
    usage = {"prompt_tokens": tokens, "completion_tokens": 3, "input_tokens": tokens}
    message = {"role": "assistant", "content": f"answer {number}"}
    choice = {"index": 0, "message": message, "text": message["content"], "finish_reason": "stop"}
    told = {"id": f"{path}-{number}", "choices": [choice], "usage": usage | {"output_tokens": 3}}
    return orjson.dumps(told)


def _events(path: str, number: int, tokens: int) -> list[bytes]:
    usage = {"input_tokens": tokens, "output_tokens": 3}
    match path:
        case "/v1/messages":
            start = {"type": "message_start", "message": {"id": f"m{number}", "usage": usage}}
            delta = {"type": "content_block_delta", "index": 0}
            delta |= {"delta": {"type": "text_delta", "text": f"answer {number}"}}
            named = [start, delta, {"type": "message_stop"}]
        case "/v1/responses":
            told = {"id": f"resp_{number}", "status": "completed", "usage": usage}
            named = [
                {"type": "response.created", "response": {"id": f"resp_{number}"}},
                {"type": "response.output_text.delta", "delta": f"answer {number}"},
                {"type": "response.completed", "response": told},
            ]
        case _:
            text = {"index": 0, "delta": {"content": f"answer {number}"}, "text": "answer"}
            used = {"prompt_tokens": tokens, "completion_tokens": 3}
            lines = [{"choices": [text]}, {"choices": [], "usage": used}]
            return [*(b"data: %b\n\n" % orjson.dumps(line) for line in lines), b"data: [DONE]\n\n"]
    return [b"event: %b\ndata: %b\n\n" % (str(e["type"]).encode(), orjson.dumps(e)) for e in named]


async def grown(
    warm: int, more: int, *, seed: int = 1, clients: int = 8, **sections: object
) -> Found:
    """Objects after `warm` requests and after `more` of them."""
    random = Random(seed)
    settings = SMALL | _SETTINGS | sections
    async with recording(3) as replicas:
        for replica in replicas:
            Engine(replica, Random(random.random()))
        async with proxied([replica.url for replica in replicas], **settings) as proxy:
            counts = []
            for count in (warm, more):
                await _churn(proxy, replicas[0].url)
                each = count // clients
                await asyncio.gather(*(_client(proxy, random, each) for _ in range(clients)))
                await settled(proxy.app)
                counts.append(await _count(proxy))
    return Found(*counts, more)


async def _count(proxy: Running) -> int:
    """Once nothing is under way any more."""
    await eventually(lambda: not proxy.app.server.connections)
    await eventually(lambda: not proxy.app._upstream._deadlines.members)
    gc.collect()
    return sys.getallocatedblocks()


async def _churn(proxy: Running, url: str) -> None:
    """A replica goes and comes back."""
    [gone] = [replica for replica in proxy.app.router.replicas if replica.url == url]
    proxy.app.table.remove(gone.id)
    await eventually(lambda: gone not in proxy.app.router.replicas)
    proxy.app.table.add(ReplicaSettings.model_validate({"url": url}))


async def _client(proxy: Running, random: Random, count: int) -> None:
    asked = 0
    while asked < count:
        async with connected(proxy.url) as (reader, writer):
            path = random.choice(list(PATHS))
            session, said = f"{random.random()}", [f"begin {random.random()}"]
            for _ in range(random.randrange(1, 6)):
                asked += 1
                chance = random.random()
                body = orjson.dumps(body_of(path, said, chance < 0.8, 8))
                raw = post(body, path, x_session_id=session)
                if random.random() < 0.03:
                    raw = random.choice([post(body[:-9], path), request("GET", f"/{session}")])
                writer.write(raw)
                if chance < 0.05:
                    break
                head = await read_answer(reader)
                if head.header(b"connection") == b"close" or not head.complete:
                    break
                said += [f"answer {asked}", f"and then? {random.random()}"]


async def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.soak.objects")
    parser.add_argument("--warm", type=int, default=2_000)
    parser.add_argument("--more", type=int, default=18_000)
    asked = parser.parse_args()
    found = await grown(asked.warm, asked.more)
    print(found)
    return 1 if found.grows else 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
