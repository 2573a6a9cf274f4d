"""Bytecodes that a small request runs for having been placed in another process, and in it:
`python -m tests.benchmark.workers.count [TOP]`. The same on every machine, however busy."""

import asyncio
import sys

import uvloop

from tests.benchmark.count import small
from tests.support.counting import Counting
from tests.support.hops import Hop, make_record, usage_of

WARM, COUNT, CONVERSATIONS = 64, 32, 32
_OURS = ("support/hops.py", "workers/count.py")


async def counted() -> tuple[Counting, Counting]:
    """(a worker's part, the placement process's), of COUNT requests."""
    joined = Hop(1, replicas=4)
    [worker], link = joined.workers, joined.link(0)
    asking, placing = Counting(*_OURS), Counting(*_OURS)
    nothing = Counting()
    for number in range(WARM + COUNT):
        late = number >= WARM
        who = number % CONVERSATIONS
        record = make_record(small(who), f"s{who}", f"id-{number}")
        placed = asyncio.ensure_future(worker.place(record, frozenset()))
        with asking if late else nothing:
            await asyncio.sleep(0)
        with placing if late else nothing:
            link.deliver()
        with asking if late else nothing:
            joined.placement.deliver()
            placement = await placed
            worker.first_token(placement)
            record.usage = usage_of(record, cached=192)
            worker.finish(record, placement)
        joined.clock.now += 0.01
    return asking, placing


def main(top: str = "15") -> None:
    for name, counting in zip(("worker", "placement"), uvloop.run(counted()), strict=True):
        print(f"{name}, for a request:\n{counting.table(COUNT, int(top))}")


if __name__ == "__main__":
    main(*sys.argv[1:])
