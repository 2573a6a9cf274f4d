"""What kvproxy's memory is made of, in a whole proxy at default settings without sockets.

`python -m tests.benchmark.memory conversations` has conversations of 400 KB, one request each, and
prints the bytes that each takes: by part, in the allocators, resident.
`python -m tests.benchmark.memory requests` has 1,000,000 small ones, a share of which begin a
conversation that never comes back, prints when each bound was met, and fails if memory grows.
"""

import argparse
import asyncio
import random
import sys

import uvloop

from kvproxy.ops.allocator import settle
from tests.benchmark.count import dump, small
from tests.benchmark.memory.parts import counts, in_use_bytes, parts_of, resident_bytes, sizes
from tests.soak.memory import LEAK_BYTES, Sample, slope
from tests.support.unplugged import Unplugged, answer, eventually, request

# As a socket of uvloop hands over what a client sends.
READ_BYTES = 256 * 2**10
TEXT_BYTES, TOOLS, SYSTEM_BYTES, MESSAGES = 2**21, 25, 20_480, 80
# What an engine finds of them in its cache, and what it says each time.
SHARED_TOKENS = 12_080
# A tenth of the least object a request is a leak where it is in use. What is resident goes up and
# down by tables of a few MiB that are made anew: of that, a whole object.
IN_USE_BYTES, RESIDENT_BYTES = LEAK_BYTES / 10, LEAK_BYTES
SESSIONS, SAMPLES = 64, 40
MIB = 2**20


class Conversations:
    """Bodies of 400 KB that share tools and system text, 50 KB of them, and nothing else."""

    def __init__(self, seed: int = 1) -> None:
        self._random = random.Random(seed)
        # Made without garbage, which would be taken for room that conversations found.
        self._text = self._random.randbytes(TEXT_BYTES // 2).hex()
        parameters = {"type": "object", "properties": {"path": {"type": "string"}}}
        self._tools = [
            {
                "type": "function",
                "function": {
                    "name": f"tool_{number}",
                    "description": self._text[number * 1000 : number * 1000 + 1000],
                    "parameters": parameters,
                },
            }
            for number in range(TOOLS)
        ]

    def body(self, number: int) -> bytes:
        messages = [{"role": "system", "content": self._text[:SYSTEM_BYTES]}]
        for index in range(MESSAGES):
            at = self._random.randrange(TEXT_BYTES - 5000)
            said = f"{number} {index} {self._text[at : at + 4300]}"
            messages.append({"role": "assistant" if index % 2 else "user", "content": said})
        fixed = {"model": "mock", "stream": False, "max_tokens": 64}
        return dump({**fixed, "tools": self._tools, "messages": messages})


async def exchange(proxy: Unplugged, raw: bytes, answered: bytes) -> None:
    """Unlike Unplugged's, in parts, and nothing of it is kept here."""
    parts = [raw[at : at + READ_BYTES] for at in range(0, len(raw), READ_BYTES)]
    del raw
    for part in parts:
        proxy.client.data_received(part)
    parts.clear()
    await eventually(lambda: bool(proxy.asked))
    link = proxy.asked.pop()
    link.data_received(answered)
    await eventually(lambda: not proxy.app.server.in_flight)
    for wire in (proxy.client._transport, link._transport):
        wire.written.clear()  # type: ignore[union-attr]


async def converse(proxy: Unplugged, made: Conversations, numbers: range, tokens: int) -> None:
    """One request of each; engines count so many `tokens`, or as many as are likely: 0."""
    for number in numbers:
        body = made.body(number)
        told = answer(tokens or len(body) // 4, SHARED_TOKENS if number > 8 else 0)
        await exchange(proxy, request(f"session-{number}", body), told)


async def conversations(count: int, tokens: int) -> None:
    proxy, made, half = Unplugged(), Conversations(), count // 2
    print(f"{count:,} conversations of {len(made.body(0)) / 1000:,.0f} kB")
    empty = resident_bytes()
    await converse(proxy, made, range(half), tokens)
    resident, used, before = resident_bytes(), in_use_bytes(), sizes(proxy.app)
    await converse(proxy, made, range(half, count), tokens)
    now, after, each = resident_bytes(), sizes(proxy.app), count - half
    print("bytes each, of the second half:")
    for name, part in parts_of(proxy.app).items():
        held = f"all: {after[name] / MIB:6.2f} MiB ({part.bound})"
        print(f"  {name:26} {(after[name] - before[name]) / each:8,.0f}   {held}")
    print(f"  {'sum':26} {(sum(after.values()) - sum(before.values())) / each:8,.0f}")
    print(f"  {'in use':26} {(in_use_bytes() - used) / each:8,.0f}")
    print(f"  {'resident':26} {(now - resident) / each:8,.0f}")
    grown = f"{(now - empty) / count:,.0f} bytes each ({empty / MIB:.1f} -> {now / MIB:.1f} MiB)"
    print(f"resident from the first on, with what is taken once: {grown}")


async def requests(count: int, once: float) -> int:
    proxy, chance = Unplugged(), random.Random(1)
    resident: list[Sample] = []
    live: list[Sample] = []
    held: list[dict[str, int]] = []
    back: set[int] = set()
    every = max(1, count // SAMPLES)
    print(f"{'requests':>9} resident in use  entries: " + ", ".join(parts_of(proxy.app)))
    for number in range(1, count + 1):
        who = number + SESSIONS if chance.random() < once else number % SESSIONS
        cached = 224 if who in back else 0
        if who < SESSIONS:
            back.add(who)
        await exchange(proxy, request(f"s{who}", small(who)), answer(230, cached))
        if not number % every:
            # Not by time: what else runs here must not be seen in it.
            resident.append((number, resident_bytes() / MIB))
            live.append((number, in_use_bytes() / MIB))
            held.append(counts(proxy.app))
            figures = " ".join(f"{entries:,}" for entries in held[-1].values())
            print(f"{number:9,} {resident[-1][1]:8.1f} {live[-1][1]:6.1f}  {figures}", flush=True)
    for name, part in parts_of(proxy.app).items():
        print(f"{name}: {_met([each[name] for each in held], every)} ({part.bound})")
    half = held[len(held) // 2 :]
    if any(each != half[0] for each in half):
        print("not judged: bounds were met in the second half only")
        return 0
    return max(
        _judged("resident", resident, count, RESIDENT_BYTES),
        _judged("in use", live, count, IN_USE_BYTES),
    )


def _met(entries: list[int], every: int) -> str:
    """When it had as many as it ever had, but for a hundredth."""
    most = max(entries)
    full = next(at for at, count in enumerate(entries, 1) if count >= 0.99 * most)
    return f"{entries[-1]:,} entries, at most {most:,}, first after {full * every:,} requests"


def _judged(what: str, samples: list[Sample], count: int, bound: float) -> int:
    seen = slope(samples, count)
    flat = seen.answer_high <= bound
    print(
        f"{what} {seen.first_mib:.1f} -> {seen.last_mib:.1f} MiB; of the second half "
        f"{seen.answer_bytes:+.1f} bytes a request, at most {seen.answer_high:+.1f}: "
        f"{'FLAT' if flat else 'NOT FLAT'} (bound: {bound:g}, upper end of 95 %)"
    )
    return 0 if flat else 1


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmark.memory")
    what = parser.add_subparsers(dest="what", required=True)
    large = what.add_parser("conversations")
    large.add_argument("--count", type=int, default=2000)
    large.add_argument("--prompt-tokens", type=int, default=0, help="as engines count; 0: bytes/4")
    many = what.add_parser("requests")
    many.add_argument("--count", type=int, default=1_000_000)
    many.add_argument("--once", type=float, default=0.5, help="share that never comes back")
    asked = parser.parse_args()
    settle()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        if asked.what == "conversations":
            runner.run(conversations(asked.count, asked.prompt_tokens))
            return 0
        return runner.run(requests(asked.count, asked.once))


if __name__ == "__main__":
    sys.exit(main())
