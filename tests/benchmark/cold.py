"""What a chunk takes that finds cold caches: `python -m tests.benchmark.cold [KB...]`.

64 streams of a whole proxy without sockets get a chunk in turn, and before each one so many KB of
memory are written over, as whatever else a machine does would. Hot loops do not show this, and it
is what chunks cost that come one by one.
"""

import asyncio
import gc
import sys
import time

import uvloop

from tests.benchmark.count import small
from tests.support.unplugged import STREAM_HEAD, Unplugged, chunk, request

STREAMS, ROUNDS, WARM = 64, 60, 10


async def measured(kilobytes: int) -> tuple[int, int]:
    """Nanoseconds, of one in ten chunks and of every other one at most."""
    proxy = Unplugged()
    links = []
    for number in range(STREAMS):
        raw = request(f"s{number}", small(number, stream=True))
        links.append(await proxy.ask(raw, proxy.new_client()))
        links[-1].data_received(STREAM_HEAD)
        await asyncio.sleep(0)
        links[-1].data_received(chunk())
    gc.collect()
    gc.disable()
    over, data = bytes(kilobytes * 1024), chunk()
    memory, times = bytearray(over), []
    for _ in range(ROUNDS):
        for link in links:
            memory[:] = over
            began = time.perf_counter_ns()
            link.data_received(data)
            times.append(time.perf_counter_ns() - began)
    times = sorted(times[WARM * STREAMS :])
    return times[len(times) // 10], times[len(times) // 2]


def main(*kilobytes: str) -> None:
    for size in map(int, kilobytes or ("1", "64", "512", "2048")):
        tenth, median = uvloop.run(measured(size))
        print(f"{size:5} KB written over: {tenth / 1e3:.2f} us p10, {median / 1e3:.2f} p50")


if __name__ == "__main__":
    main(*sys.argv[1:])
