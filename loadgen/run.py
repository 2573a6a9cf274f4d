"""A run: N users replay traces against one endpoint until a time, a count or the traces end."""

import asyncio
import gc
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

import orjson

from loadgen.arrivals import Arrivals, begin_each
from loadgen.bound import InfiniteCache
from loadgen.client import Client, ClientSettings
from loadgen.dialects import DIALECTS
from loadgen.honesty import CpuMeter, allowed_lag_s, verdict
from loadgen.hopping import wire_to
from loadgen.layout import Overhead
from loadgen.output.folder import write_folder
from loadgen.output.scrape import Scraper
from loadgen.plan import ContentSettings, Plans
from loadgen.probe import EndpointError, Probe, Pulse
from loadgen.ramp.choose import controller_of
from loadgen.ramp.live import SeatGate, Steering
from loadgen.ramp.observe import attainment
from loadgen.resume import JOURNAL, RECORD, Past, ResumeError, accounted, read_past, trace_digest
from loadgen.run_values import Progress, RunResult, RunSettings
from loadgen.sample import Journal, Sample
from loadgen.schedule import TraceQueue
from loadgen.session import Asking, Gate, Session, Stage
from loadgen.stats import spread, summarise
from loadgen.text import WordPool
from loadgen.traces.model import Trace
from loadgen.warm import Warm
from loadgen.wire import Wire

# So many failures in a row, and none of them an answer, mean that nobody is there.
FAILURES_IN_A_ROW_MAX = 30


OnStart = Callable[[Progress], None]


async def run_load(
    settings: RunSettings,
    traces: list[Trace],
    output: Path | None = None,
    on_start: OnStart | None = None,
    *,
    resume: bool = False,
) -> RunResult:
    """Replay `traces`; write run.json and requests.jsonl under `output`, or go on with what is
    there.

    Raises EndpointError when the endpoint cannot be asked at all, ResumeError when there is
    nothing to go on with. Cancelling it ends the run at once and loses the summary, never the
    journal.
    """
    public = settings.public() | {"trace_digest": trace_digest(traces), "traces": len(traces)}
    past = Past()
    if resume:
        assert output is not None, "a run is resumed where its journal is"
        if settings.ramp is not None:
            raise ResumeError("a ramp cannot be gone on with: it has to see every request")
        past = read_past(output, public)
    wire = wire_to(settings.url, settings.also)
    headers = {"x-kvproxy-decision": "1", "Accept": "text/event-stream"}
    if settings.api_key:
        headers["Authorization"] = f"Bearer {settings.api_key}"
    pool = WordPool(settings.seed)
    probe = Probe(wire, headers)
    try:
        model = settings.model or await probe.model()
        version = await probe.version()
        measured = await probe.template(model, pool)
        overhead, per_word = measured or (Overhead(), 1.0)
        if settings.dialect == "completions":  # no template stands between the words
            overhead = Overhead()
        warm = Warm.of(traces, settings.warm_prefix_pct)
        content = ContentSettings(settings.seed, warm, overhead, per_word)
        lengths = (settings.output_tokens_max, settings.engine_extras)
        asking = Asking(model, headers, *lengths, DIALECTS[settings.dialect])
        record: dict[str, object] = {
            "settings": public | {"model": model},
            "endpoint_version": version,
            "template_measured": measured is not None,
            "template": asdict(overhead) | {"tokens_per_word": per_word},
        }
        _write(output, record)
        run = _Run(settings, traces, wire, pool, (asking, content), past=past)
        if on_start is not None:
            on_start(run.progress)
        await run.play(output)
    finally:
        wire.close()
    summary = run.summary()
    record |= {"ended_because": run.gate.reason, "ramp": run.ramp_record(), "summary": summary}
    _write(output, record)
    if output is not None:
        samples = accounted(run.progress.samples)
        scale, lasted_s = settings.timing.time_scale, time.monotonic() - run.progress.started
        write_folder(
            output, record, samples, run.scraper.found, time_scale=scale, duration_s=lasted_s
        )
    return RunResult(record, summary, run.progress.samples)


def _write(output: Path | None, record: dict[str, object]) -> None:
    """run.json is there from the start: an interrupted run is resumed from its settings."""
    if output is not None:
        output.mkdir(parents=True, exist_ok=True)
        text = orjson.dumps(record, option=orjson.OPT_INDENT_2)
        (output / RECORD).write_bytes(text + b"\n")


class _Run:
    def __init__(
        self,
        settings: RunSettings,
        traces: list[Trace],
        wire: Wire,
        pool: WordPool,
        asking: tuple[Asking, ContentSettings],
        *,
        past: Past,
    ) -> None:
        self._settings = settings
        self._past = past
        self._traces = traces
        recorded = settings.arrivals is not None and settings.arrivals.kind == "recorded"
        self._queue = TraceQueue(traces, settings.seed, settings.recycles, as_recorded=recorded)
        self._queue.resume(past.plays(traces))
        self._controller = controller_of(settings.ramp) if settings.ramp is not None else None
        self._pulse = Pulse()
        self._cpu = CpuMeter()
        self._journal: Journal | None = None
        # A resumed run counts from when it first began, less the time that it was down.
        self._started = self._began = time.monotonic() - past.lasted_s
        left = settings.requests - len(past.samples) if settings.requests is not None else None
        self.gate = Gate(left if left is None else max(0, left))
        self.progress = Progress(self._started, settings.users, samples=list(past.samples))
        self.scraper = Scraper(settings.scrape, self._started)
        path = DIALECTS[settings.dialect].path
        client = ClientSettings(settings.timing.time_scale, settings.timeout_s, path=path)
        self._stage = Stage(
            client=Client(wire, client, self._started),
            gate=self.gate,
            asking=asking[0],
            timing=settings.timing,
            pool=pool,
            plans=Plans(asking[1], traces),
            cache=InfiniteCache(settings.engine_block_size),
            sent=self._sent,
            ended=self._ended,
            past=past,
        )

    async def play(self, output: Path | None) -> None:
        # Whatever takes long and can be known ahead is done before any clock runs.
        for trace in self._traces:
            self._stage.plans.of(trace)
        ramped, arrivals = self._controller is not None, self._settings.arrivals
        fresh = not self._past.samples
        count = 0 if ramped or arrivals is not None else self._settings.users
        first = [await self._next_session(self._stage, advance=fresh) for _ in range(count)]
        sessions = [session for session in first if session is not None]
        # What lives as long as the run need not be searched for garbage during it.
        gc.collect()
        gc.freeze()
        self._began = time.monotonic() - self._past.lasted_s
        self._cpu = CpuMeter()
        pulse = asyncio.create_task(self._pulse.beat())
        scraping = asyncio.create_task(self.scraper.run())
        if arrivals is not None:
            playing = self._arriving_users(arrivals)
        else:
            playing = self._ramped_users() if ramped else self._users(sessions)
        users = asyncio.create_task(playing)
        try:
            if output is None:
                await self._until_over(users)
            else:
                resumed = self._past.lasted_s > 0
                with Journal(output / JOURNAL, append=resumed) as self._journal:
                    await self._until_over(users)
        finally:
            gc.unfreeze()
            for task in (pulse, users, scraping):
                task.cancel()
            await asyncio.wait([pulse, users, scraping])

    def summary(self) -> dict[str, object]:
        summary = summarise(self.progress.samples, self._settings.engine_block_size)
        summary["duration_s"] = time.monotonic() - self._began
        summary["loop_lag_s"] = spread(self._pulse.lags_s)
        slo, scale = self._settings.slo, self._settings.timing.time_scale
        if slo is not None:
            over_s = time.monotonic() - self._started
            summary["slo"] = attainment(self.progress.samples, slo, scale, over_s)
        ttft_slo_s = slo.most_s("ttft_s", 0) if slo else None
        allowed_s = self._settings.client_lag_max_s or allowed_lag_s(ttft_slo_s, scale)
        lags = [sample.lag_s for sample in self.progress.samples if sample.lag_s is not None]
        summary["client"] = verdict(lags, self._pulse.lags_s, allowed_s) | self._cpu.read()
        return summary

    def ramp_record(self) -> dict[str, object] | None:
        controller = self._controller
        if controller is None:
            return None
        return controller.result() | {"notes": [asdict(note) for note in controller.notes]}

    async def _until_over(self, users: "asyncio.Task[None]") -> None:
        """Wait for the users; at the end of the run give what is in flight `grace_s`."""
        over = asyncio.create_task(self.gate.wait_closed())
        duration_s = self._settings.duration_s
        try:
            await asyncio.wait(
                [users, over],
                timeout=None if duration_s is None else max(0.0, duration_s - self._past.lasted_s),
                return_when=asyncio.FIRST_COMPLETED,
            )
            self.gate.close("traces played" if users.done() else "duration over")
            await asyncio.wait([users], timeout=self._settings.grace_s)
        finally:
            over.cancel()
            if not users.done():
                users.cancel()
                await asyncio.wait([users])
        if not users.cancelled() and (error := users.exception()) is not None:
            raise error
        if self.gate.reason == "endpoint lost":
            last = self.progress.samples[-1]
            raise EndpointError(
                f"{FAILURES_IN_A_ROW_MAX} requests in a row failed; "
                f"the last: {last.error} {last.error_detail}"
            )

    async def _users(self, sessions: list[tuple[Trace, Session]]) -> None:
        now = time.monotonic()
        starts = self._settings.timing.starts_s(len(sessions), self._settings.seed)
        async with asyncio.TaskGroup() as group:
            for start_s, (trace, session) in zip(starts, sessions, strict=True):
                group.create_task(self._user(trace, session, now + start_s))

    async def _arriving_users(self, arrivals: Arrivals) -> None:
        scale, seed = self._settings.timing.time_scale, self._settings.seed
        starts = (start / scale for start in arrivals.starts_s(self._traces, seed))
        following = partial(self._next_session, self._stage)
        if not await begin_each(starts, following, self.gate, self._one):
            self.gate.close("too many conversations at a time")

    async def _one(self, trace: Trace, session: Session, at: float) -> None:
        try:
            await session.run(at)
        finally:
            self._queue.give_back(trace)

    async def _ramped_users(self) -> None:
        assert self._controller is not None
        async with asyncio.TaskGroup() as group:

            async def play(stage: Stage) -> None:
                following = await self._next_session(stage)
                assert following is not None, "with a ramp traces are recycled"
                await self._user(*following, time.monotonic())

            def join(number: int) -> None:
                gate = SeatGate(self.gate, steering.seats, number)
                group.create_task(play(replace(self._stage, gate=gate)))

            scale = self._settings.timing.time_scale
            steering = Steering(
                self._controller, self.gate, scale, self._started, join=join, told=self._seated
            )
            await steering.steer(self.progress.samples, self.progress.flying.values())
            self.gate.close("ramp done")

    async def _user(self, trace: Trace, session: Session, at: float) -> None:
        """One user: a conversation at a time, a new one as soon as the last has ended."""
        while True:
            await self._one(trace, session, at)
            following = None if self.gate.closed else await self._next_session(session.stage)
            if following is None:
                return
            trace, session = following
            at = time.monotonic()

    async def _next_session(
        self, stage: Stage, *, advance: bool = False
    ) -> tuple[Trace, Session] | None:
        taken = self._queue.take()
        if taken is None:
            return None
        first = self._settings.timing.first_turn(taken[0], self._settings.seed) if advance else 0
        session = Session(stage, *taken, first)
        await session.prepare()
        return taken[0], session

    def _seated(self, users: int) -> None:
        self.progress.users = users

    def _sent(self, sample: Sample) -> None:
        self.progress.sent += 1
        self.progress.flying[id(sample)] = sample

    def _ended(self, sample: Sample) -> None:
        progress = self.progress
        del progress.flying[id(sample)]
        if self._journal is not None:
            self._journal.append(sample)
        # On disk by now; in memory they would outgrow everything else.
        sample.chunks = []
        progress.samples.append(sample)
        if sample.status:
            progress.failures_in_a_row = 0
        elif sample.error != "cancelled":
            progress.failures_in_a_row += 1
            if progress.failures_in_a_row >= FAILURES_IN_A_ROW_MAX:
                self.gate.close("endpoint lost")
