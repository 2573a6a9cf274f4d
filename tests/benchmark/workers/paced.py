"""Small requests at a steady rate: `python -m tests.benchmark.workers.paced PORT`."""

import asyncio
import sys

import uvloop

from tests.benchmark.relay.client import WORKLOADS, Client, Conversations, Seen

# So seldom that none meets another on its way, nor the end of the one before, which is told 5 ms
# after it.
CONNECTIONS, EVERY_S, SECONDS = 16, 0.16, 10.0


async def drive(port: int) -> None:
    seen, loop = Seen(), asyncio.get_running_loop()
    conversations, until = Conversations(WORKLOADS["W1"]), loop.time() + SECONDS

    async def one(number: int) -> None:
        _, client = await loop.create_connection(lambda: Client(seen), "127.0.0.1", port)
        due = loop.time() + EVERY_S * number / CONNECTIONS
        while due < until:
            await asyncio.sleep(max(0.0, due - loop.time()))
            due += EVERY_S
            for body in conversations.turns():
                await client.ask(body, f"p{number}")
        client.transport.close()

    await asyncio.gather(*(one(number) for number in range(CONNECTIONS)))
    if seen.failed or not seen.requests:
        raise SystemExit(f"{seen.failed} of {seen.requests} requests failed")


if __name__ == "__main__":
    uvloop.run(drive(int(sys.argv[1])))
