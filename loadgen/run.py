"""A run: N users replay traces against one endpoint until a time, a count or the traces end."""

import asyncio
import gc
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

import orjson
from msgspec import to_builtins

from loadgen.bound import recount
from loadgen.chaos import Chaos
from loadgen.dialects import DIALECTS
from loadgen.force import Alone, Force, until_over
from loadgen.honesty import allowed_lag_s, client_of
from loadgen.hopping import wire_to
from loadgen.layout import Overhead
from loadgen.ledger import Ledger
from loadgen.limits import Admission
from loadgen.output.folder import clear_folder, write_folder
from loadgen.output.lifecycle import turns_of
from loadgen.output.scrape import Scraper, unread
from loadgen.plan import ContentSettings, Plans
from loadgen.players import Players, stage_of
from loadgen.probe import EndpointError, Probe
from loadgen.ramp.choose import budget_of, controller_of
from loadgen.ramp.live import Steering
from loadgen.ramp.observe import attainment
from loadgen.resume import JOURNAL, RECORD, Past, ResumeError, read_past, trace_digest
from loadgen.run_values import Progress, RunResult, RunSettings
from loadgen.sample import Journal
from loadgen.schedule import Share
from loadgen.session import Asking, Gate
from loadgen.stats import spread, summarise
from loadgen.text import WordPool
from loadgen.traces.model import Trace
from loadgen.warm import Warm
from loadgen.wire import Wire
from loadgen.workers.crew import Crew
from loadgen.workers.messages import Job

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

    Raises EndpointError when the endpoint cannot be asked at all, or was lost on the way: then
    after all files were written. ResumeError when there is nothing to go on with. Cancelling it
    ends the run at once and loses the summary, never the journal.
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
        if past.model not in (None, model):
            raise ResumeError(f"{output} was answered by {past.model}, here is {model}")
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
        if output is not None and not resume:
            clear_folder(output)
        run = _Run(settings, traces, wire, (asking, content), past=past)
        if on_start is not None:
            on_start(run.progress)
        await run.play(output)
    finally:
        wire.close()
    summary = run.summary()
    record |= {"ended_because": run.gate.reason, "ramp": run.ramp_record(), "summary": summary}
    record["unread"] = unread(run.scraper.found)
    record["events"] = [to_builtins(event) for event in run.chaos.happened]
    _write(output, record)
    if output is not None:
        write_folder(
            output, record, run.progress.samples, run.scraper.found,
            time_scale=settings.timing.time_scale, duration_s=run.ended - run.progress.started,
            turns=turns_of(traces),
        )  # fmt: skip
    if run.gate.reason == "endpoint lost":
        raise EndpointError(run.lost())
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
        asking: tuple[Asking, ContentSettings],
        *,
        past: Past,
    ) -> None:
        self._settings = settings
        self._past = past
        self._traces = traces
        self._asking = asking
        self._controller = controller_of(settings.ramp) if settings.ramp is not None else None
        # A resumed run counts from when it first began, less the time that it was down.
        self._started = self._began = self.ended = time.monotonic() - past.lasted_s
        self._budget = budget_of(settings.ramp, self._engine_s)
        left = settings.requests
        if left is not None:
            left = max(0, left - len(past.samples))
        workers = _workers(settings, traces)
        self.gate = Gate(left if workers == 1 else None)
        self.progress = Progress(self._started, settings.users, samples=list(past.samples))
        self.progress.failed = sum(sample.failed for sample in past.samples)
        self.scraper = Scraper(settings.scrape, self._started)
        self.chaos = Chaos(settings.commands)
        self._ledger = Ledger(self.progress, self.gate, settings.breaker)
        self._crew = Crew(self._jobs(workers, left), self._ledger, self.gate)
        self._force: Force = self._crew
        if workers == 1:
            scale = settings.timing.time_scale
            admission = Admission(settings.limits, self.progress.flying, scale)
            stage = stage_of(
                settings, traces, wire, asking,
                started=self._started, witness=self._ledger, gate=self.gate, past=past,
                admission=admission,
            )  # fmt: skip
            self._force = Alone(Players(settings, traces, stage, budget=self._budget))

    def _jobs(self, workers: int, requests: int | None) -> list[Job]:
        if workers == 1:
            return []
        # Workers say what they heard; what earlier runs sent is only counted here.
        shares = [Share(number, workers) for number in range(workers)]
        budgets = _budgets(requests, self._settings, shares)
        fixed = (self._settings, self._traces, *self._asking)
        return [
            Job(*fixed, share, self._past, budget, self._started)
            for share, budget in zip(shares, budgets, strict=True)
        ]

    async def play(self, output: Path | None) -> None:
        try:
            await self._force.prepare()
            # What lives as long as the run need not be searched for garbage during it.
            gc.collect()
            gc.freeze()
            self._began = time.monotonic() - self._past.lasted_s
            if output is None:
                await self._play()
            else:
                resumed = self._past.lasted_s > 0
                with Journal(output / JOURNAL, append=resumed) as self._ledger.journal:
                    await self._play()
        finally:
            self.ended = time.monotonic()
            gc.unfreeze()
            await self._crew.close()
        if self._settings.workers > 1:
            plans = Plans(self._asking[1], self._traces)
            recount(self.progress.samples, self._traces, plans, self._settings.engine_block_size)

    async def _play(self) -> None:
        settings, past_s = self._settings, self._past.lasted_s
        beside = [asyncio.create_task(self.scraper.run())]
        beside.append(asyncio.create_task(self.chaos.run(self._began, self._started)))
        users = asyncio.create_task(self._force.play(time.monotonic()))
        if self._controller is not None:
            beside.append(asyncio.create_task(self._steer()))
        lasts_s = settings.duration_s
        lasts_s = None if lasts_s is None else max(0.0, lasts_s - past_s)
        grace_s = settings.grace_s + self._force.grace_s
        try:
            await until_over(users, self.gate, lasts_s=lasts_s, grace_s=grace_s)
        finally:
            for task in (users, *beside):
                task.cancel()
            await asyncio.wait([users, *beside])
        for task in beside:
            if not task.cancelled() and (error := task.exception()) is not None:
                raise error

    def lost(self) -> str:
        """For a person, why the run did not go on."""
        last = next(one for one in reversed(self.progress.samples) if one.failed)
        return (
            f"{self.progress.failures_in_a_row} requests in a row failed; "
            f"the last: {last.error} {last.error_detail}"
        )

    async def _steer(self) -> None:
        assert self._controller is not None
        scale = self._settings.timing.time_scale
        steering = Steering(
            self._controller, self.gate, scale, self._started,
            offer=self._offer, clock=self._force.clock, budget=self._budget,
        )  # fmt: skip
        try:
            await steering.steer(self.progress.samples, self.progress.flying.values())
        finally:
            self.gate.close("ramp done")

    def _engine_s(self) -> float:
        return (time.monotonic() - self._started) * self._settings.timing.time_scale

    def _offer(self, users: int) -> None:
        self.progress.users = users
        self._force.offer(users)

    def summary(self) -> dict[str, object]:
        everything, measured = self.progress.samples, self._force.measured()
        warm_up_s = self._settings.warm_up_s
        # Samples count from before the first prompts were rendered.
        from_s = self._began - self._started + warm_up_s if warm_up_s else 0.0
        samples = [one for one in everything if one.t_intended >= from_s]
        summary = summarise(samples, self._settings.engine_block_size)
        left_out = len(everything) - len(samples)
        summary["warm_up"] = {"s": warm_up_s, "requests": left_out} if warm_up_s else None
        summary["duration_s"] = self.ended - self._began
        summary["time_scale"] = self._settings.timing.time_scale
        summary["loop_lag_s"] = spread(lag for one in measured for lag in one.loop_lags_s)
        slo, scale = self._settings.slo, self._settings.timing.time_scale
        if slo is not None:
            until_s, lasted_s = self.ended - self._started, self.ended - self._began - warm_up_s
            summary["slo"] = attainment(samples, slo, scale, until_s, lasted_s)
        ttft_slo_s = slo.most_s("ttft_s", 0) if slo else None
        allowed_s = self._settings.client_lag_max_s
        allowed_s = allowed_lag_s(ttft_slo_s, scale) if allowed_s is None else allowed_s
        lags: list[list[float]] = [[] for _ in measured]
        for sample in samples:
            if sample.lag_s is not None and sample.worker < len(lags):
                lags[sample.worker].append(sample.lag_s)
        summary["client"] = client_of(lags, measured, allowed_s)
        return summary

    def ramp_record(self) -> dict[str, object] | None:
        controller = self._controller
        if controller is None:
            return None
        return controller.result() | {"notes": [asdict(note) for note in controller.notes]}


def _workers(settings: RunSettings, traces: Sequence[Trace]) -> int:
    """Not more than there are conversations to share: two workers never play one trace."""
    users = settings.ramp.users_max if settings.ramp is not None else settings.users
    at_once = len(traces) if settings.arrivals is not None else min(users, len(traces))
    return max(1, min(settings.workers, at_once))


def _budgets(
    requests: int | None, settings: RunSettings, shares: Sequence[Share]
) -> Sequence[int | None]:
    """Each worker's part of the requests, as large as its part of the users."""
    if requests is None:
        return [None] * len(shares)
    if settings.ramp is not None or settings.arrivals is not None:
        return [len(share.of(range(requests))) for share in shares]
    users = [len(share.of(range(settings.users))) for share in shares]
    ends = [requests * sum(users[: n + 1]) // settings.users for n in range(len(shares))]
    return [end - start for start, end in zip([0, *ends], ends, strict=False)]
