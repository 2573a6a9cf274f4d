"""What a burst costs: `python -m tests.benchmark.bursts [ROUNDS] TREE...`, paths of checkouts.

64 streams begin at once on a whole proxy without sockets, whose engines answer as soon as the loop
looks. Each tree has a process, and they take turns at every burst, so that what else the machine
does falls on all alike: ratios to the first tree are medians of pairs.
"""

import asyncio
import os
import statistics
import subprocess
import sys
import time
from typing import Any

STREAMS, ROUNDS, WARM = 64, 40, 4
NAMES = ("half of the first tokens, ms", "the last, ms", "a stream, µs")


async def play() -> None:
    """A burst for every line that comes in; CPU times go out."""
    from tests.benchmark.count import small
    from tests.support.unplugged import STREAM_HEAD, Unplugged, chunk, request, stream_end

    proxy, number = Unplugged(), 0
    clients = [proxy.new_client() for _ in range(STREAMS)]
    wires: list[Any] = [client._transport for client in clients]
    while sys.stdin.readline():
        raws = [request(f"s{n}", small(n, stream=True)) for n in range(number, number + STREAMS)]
        number += STREAMS
        told, links, began = list[float](), [], time.thread_time()
        for client, raw in zip(clients, raws, strict=True):
            client.data_received(raw)
        while len(told) < STREAMS:
            await next_turn()
            links += proxy.asked
            for link in proxy.asked:
                link.data_received(STREAM_HEAD + chunk())
            proxy.asked.clear()
            now = time.thread_time() - began
            written = sum(bool(wire.written) for wire in wires)
            told += [now] * (written - len(told))
        for link in links:
            link.data_received(stream_end(230, 0))
        while proxy.app.server.in_flight:
            await next_turn()
        used = time.thread_time() - began
        for wire in wires:
            wire.written.clear()
        print(told[STREAMS // 2] * 1e3, told[-1] * 1e3, used / STREAMS * 1e6, flush=True)


async def next_turn() -> None:
    await asyncio.sleep(0)


def player(tree: str) -> subprocess.Popen[str]:
    command = [sys.executable, os.path.abspath(__file__), "--play"]
    pipe, here = subprocess.PIPE, {**os.environ, "PYTHONPATH": os.path.abspath(tree)}
    return subprocess.Popen(command, cwd=tree, env=here, stdin=pipe, stdout=pipe, text=True)


def burst(played: subprocess.Popen[str]) -> list[float]:
    assert played.stdin is not None
    assert played.stdout is not None
    played.stdin.write("\n")
    played.stdin.flush()
    return [float(figure) for figure in played.stdout.readline().split()]


def main(*given: str) -> None:
    rounds = int(given[0]) if given and given[0].isdecimal() else ROUNDS
    trees = [tree for tree in given if not tree.isdecimal()] or ["."]
    players = [player(tree) for tree in trees]
    try:
        rows = [[burst(played) for played in players] for _ in range(WARM + rounds)][WARM:]
    finally:
        for played in players:
            played.terminate()
            played.wait()
    print(f"| | {' | '.join(NAMES)} |\n|---{'|---' * len(NAMES)}|")
    for at, tree in enumerate(trees):
        cells = []
        for figure in range(len(NAMES)):
            median = statistics.median(row[at][figure] for row in rows)
            ratio = statistics.median(row[at][figure] / row[0][figure] for row in rows)
            cells.append(f"{median:.1f} ({ratio:.2f})")
        print(f"| {tree} | {' | '.join(cells)} |")


if __name__ == "__main__":
    if sys.argv[1:] == ["--play"]:
        import uvloop

        uvloop.run(play())
    else:
        main(*sys.argv[1:])
