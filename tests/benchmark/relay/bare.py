"""The least a Python relay can do: no parsing, no choice, no memory. What kvproxy is held against
where no other proxy is installed. `python -m tests.benchmark.relay.bare PORT REPLICA_PORT...`"""

import asyncio
import itertools
import sys

import httptools
import uvloop


class Back(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.parser = httptools.HttpResponseParser(self)

    def data_received(self, data: bytes) -> None:
        self.front.transport.write(data)
        self.parser.feed_data(data)

    def on_message_complete(self) -> None:
        self.pool.append(self)


class Front(asyncio.Protocol):
    pools: "list[list[Back]]"
    ports: list[int]
    turn = itertools.count()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.parser = httptools.HttpRequestParser(self)
        self.received: list[bytes] = []

    def data_received(self, data: bytes) -> None:
        self.received.append(data)
        self.parser.feed_data(data)

    def on_message_complete(self) -> None:
        index = next(self.turn) % len(self.ports)
        if pool := self.pools[index]:
            self.send(pool.pop())
        else:
            asyncio.get_running_loop().create_task(self.connect(index))

    async def connect(self, index: int) -> None:
        loop = asyncio.get_running_loop()
        _, back = await loop.create_connection(Back, "127.0.0.1", self.ports[index])
        back.pool = self.pools[index]
        self.send(back)

    def send(self, back: Back) -> None:
        back.front = self
        back.transport.writelines(self.received)
        self.received = []


async def main(port: int, *ports: int) -> None:
    Front.ports, Front.pools = list(ports), [[] for _ in ports]
    loop = asyncio.get_running_loop()
    await (await loop.create_server(Front, "127.0.0.1", port)).serve_forever()


if __name__ == "__main__":
    uvloop.run(main(*map(int, sys.argv[1:])))
