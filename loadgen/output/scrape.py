"""What replicas say of themselves while a run goes on, from their /metrics pages."""

import asyncio
import re
import time
from collections.abc import Sequence

import msgspec

from kvproxy.core.scrape import read_metrics
from loadgen.wire import Endpoint, Wire, WireError

INTERVAL_S = 2.0
TIMEOUT_S = 5.0
PAGE_BYTES_MAX = 8 << 20
# With one replica more than a day; then it stops.
SCRAPES_MAX = 50_000

_FIGURES = {
    "kv_cache_usage_perc": "kv_usage",
    "prompt_tokens_total": "prompt_tokens",
    "generation_tokens_total": "output_tokens",
    "prefix_cache_hits_total": "hbm_hits",
    "external_prefix_cache_hits_total": "dram_hits",
    "num_preemptions_total": "preemptions",
}
_LINE = re.compile(
    rf"^vllm:({'|'.join(_FIGURES)})(?:\{{[^}}]*\}})? ([0-9.eE+-]+)(?: \d+)?$", re.MULTILINE
)


class Scraped(msgspec.Struct, omit_defaults=True):
    """One page of one replica, `t` real seconds after the start of the run. Counters are since the
    replica started; those of data-parallel ranks are added up."""

    t: float
    replica: str
    running: int = 0
    waiting: int = 0
    hbm_tokens: int | None = None
    kv_usage: float = 0.0
    prompt_tokens: float = 0.0
    output_tokens: float = 0.0
    hbm_hits: float = 0.0
    dram_hits: float = 0.0
    preemptions: float = 0.0
    error: str = ""


def read_page(page: str, replica: str, t: float) -> Scraped:
    """ValueError where a figure is no number."""
    figures: dict[str, float] = {}
    for name, value in _LINE.findall(page):
        figures[_FIGURES[name]] = figures.get(_FIGURES[name], 0.0) + float(value)
    known = read_metrics(page)
    found = Scraped(t, replica, known.running, known.waiting, known.hbm_tokens)
    for name, value in figures.items():
        setattr(found, name, value)
    return found


def unread(found: Sequence[Scraped]) -> list[str]:
    """For a person, replicas whose pages could not all be read, and why."""
    said = []
    for name in dict.fromkeys(one.replica for one in found):
        pages = [one for one in found if one.replica == name]
        failed = [one.error for one in pages if one.error]
        if failed:
            said.append(
                f"{len(failed)} of {len(pages)} pages of {name} were not read: {failed[-1]}"
            )
    return said


class Scraper:
    """Asks every replica every INTERVAL_S on connections of its own."""

    def __init__(self, urls: Sequence[str], start: float) -> None:
        self.found: list[Scraped] = []
        self._wires = {url.partition("://")[2]: Wire(Endpoint(url)) for url in urls}
        self._start = start

    async def run(self) -> None:
        """Until cancelled."""
        try:
            while self._wires and len(self.found) < SCRAPES_MAX:
                await asyncio.gather(*(self._ask(name) for name in self._wires))
                await asyncio.sleep(INTERVAL_S)
        finally:
            for wire in self._wires.values():
                wire.close()

    async def once(self) -> None:
        try:
            await asyncio.gather(*(self._ask(name) for name in self._wires))
        finally:
            for wire in self._wires.values():
                wire.close()

    async def _ask(self, replica: str) -> None:
        parts: list[bytes] = []

        def keep(_: float, data: bytes) -> None:
            parts.append(data)
            if sum(map(len, parts)) > PAGE_BYTES_MAX:
                raise WireError("bad_http", f"more than {PAGE_BYTES_MAX} bytes")

        t = round(time.monotonic() - self._start, 3)
        try:
            async with asyncio.timeout(TIMEOUT_S):
                done = await self._wires[replica].exchange("GET", "/metrics", {}, b"", keep)
            if done.status != 200:
                raise ValueError(f"status {done.status}")
            self.found.append(read_page(b"".join(parts).decode(errors="replace"), replica, t))
        except (WireError, ValueError, TimeoutError) as error:
            self.found.append(Scraped(t, replica, error=str(error)[:200] or "no answer"))
