"""Runs the arms of a comparison in turn: same content, same arrivals, empty caches."""

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from functools import partial

from loadgen.output.scrape import Scraper
from loadgen.probe import EndpointError, Probe
from loadgen.run import run_load
from loadgen.run_values import Progress, RunResult, RunSettings
from loadgen.traces.model import Trace
from loadgen.wire import Endpoint, Wire


@dataclass(frozen=True, slots=True)
class Contender:
    """`serving` yields the URL to load, for as long as a run lasts."""

    name: str
    serving: Callable[[], AbstractAsyncContextManager[str]]


def turns(names: Sequence[str], repeats: int) -> list[tuple[int, str]]:
    """(repeat, arm) in the order of play. Each repeat begins with the next arm, so that what
    changes with time falls on all of them alike."""
    order = []
    for repeat in range(repeats):
        shift = repeat % len(names)
        order += [(repeat, name) for name in (*names[shift:], *names[:shift])]
    return order


async def play(
    contenders: Sequence[Contender],
    settings: RunSettings,
    traces: list[Trace],
    tell: Callable[[int, str, Progress], None],
    *,
    repeats: int,
    reset: Sequence[str],
) -> dict[str, list[RunResult]]:
    """Results by arm, one a repeat. Every repeat has a seed of its own, which all arms share;
    `reset` are URLs of replicas whose caches are emptied before each run."""
    found: dict[str, list[RunResult]] = {one.name: [] for one in contenders}
    serving = {one.name: one.serving for one in contenders}
    for repeat, name in turns(list(serving), repeats):
        for url in reset:
            await forget(url)
        async with serving[name]() as url:
            run = replace(settings, url=url, seed=settings.seed + repeat)
            on_start = partial(tell, repeat, name)
            found[name].append(await run_load(run, traces, on_start=on_start))
    return found


async def forget(url: str) -> None:
    """Empty a replica's prefix cache."""
    wire = Wire(Endpoint(url))
    try:
        status, _ = await Probe(wire, {}).ask("POST", "/reset_prefix_cache")
    finally:
        wire.close()
    if status == 404:
        raise EndpointError(
            f"{url}/reset_prefix_cache answered 404, and arms that find what others left in the "
            "cache cannot be compared: start vLLM with VLLM_SERVER_DEV_MODE=1, or leave out "
            "--replica and restart the engines yourself"
        )
    if status != 200:
        raise EndpointError(f"{url}/reset_prefix_cache answered {status}")


async def room_tokens(urls: Sequence[str]) -> int | None:
    """Tokens of KV that all these replicas hold in HBM, as they say; None if one does not."""
    scraper = Scraper(urls, 0.0)
    await scraper.once()
    sizes = [one.hbm_tokens for one in scraper.found]
    return sum(size or 0 for size in sizes) if sizes and all(sizes) else None
