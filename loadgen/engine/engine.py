"""The engine: a scheduler moved through virtual time.

Time is an argument and never goes back. Between two calls nothing happens, so a server calls at
`next_token_time` and a simulator at `next_event_time`, and both see the same engine: a run of
decode-only steps is one calculation, however long, and can be cut at any step by an arrival.
"""

import math

from loadgen.engine.block_log import BlockLog
from loadgen.engine.block_store import BlockStore
from loadgen.engine.dram_tier import DramTier
from loadgen.engine.messages import (
    Emission,
    Finished,
    FinishReason,
    FirstToken,
    Gauges,
    Request,
    Tokens,
)
from loadgen.engine.rates import EngineLimits, EngineRates
from loadgen.engine.scheduler import Scheduler
from loadgen.engine.sequence import Sequence, Step


class Engine:
    """One replica. `token_emissions=False` leaves out `Tokens`, which a simulator does not need.

    `decode_jumps=False` plans every decode step by itself: slower, same results (but for which
    of two requests that generate the same blocks at once holds the second copy).
    """

    def __init__(
        self,
        rates: EngineRates,
        limits: EngineLimits,
        *,
        token_emissions: bool = True,
        decode_jumps: bool = True,
    ) -> None:
        self.rates = rates
        self.limits = limits
        self._store = BlockStore(limits)
        self._scheduler = Scheduler(rates, limits, self._store)
        self._token_emissions = token_emissions
        self._decode_jumps = decode_jumps
        self._sequences: dict[str, Sequence] = {}
        self._kept: dict[str, Sequence] = {}
        self._out: list[Emission] = []
        self._log: BlockLog | None = None
        self._step: Step | None = None
        self._now = 0.0
        self._start_s: float | None = None  # when the next step may begin, if none is under way
        self._stalled: tuple[float, float] | None = None  # (since, until)
        self._prompt_tokens = 0
        self._cached_prompt_tokens = 0
        self._loaded_prompt_tokens = 0
        self._generation_tokens = 0

    def submit(self, request: Request, now: float) -> None:
        """Queue a request. Raises ValueError if it could never fit in HBM or its id is taken."""
        if request.prompt_tokens < 1 or request.output_tokens < 1:
            raise ValueError(f"request {request.id!r}: prompt and output need at least one token")
        if request.id in self._sequences:
            raise ValueError(f"request id {request.id!r} is in use")
        tokens = request.prompt_tokens + request.output_tokens - 1
        if self._store.blocks_of(tokens) > self.limits.num_blocks:
            raise ValueError(f"request {request.id!r}: {tokens} tokens do not fit in HBM")
        self._catch_up(now)
        sequence = Sequence(request, now)
        self._sequences[request.id] = sequence
        self._scheduler.add(sequence)
        self._interrupt()

    def abort(self, request_id: str, now: float) -> None:
        """Drop a request at once and free its blocks; unknown or finished ids are ignored."""
        self._catch_up(now)
        sequence = self._sequences.get(request_id)
        if sequence is None:
            return
        self._end(sequence, now, "abort")
        self._interrupt()

    def let_go(self, request_id: str, now: float) -> bool:
        """Free the blocks that a finished request keeps for a peer; False if it keeps none."""
        self._catch_up(now)
        sequence = self._kept.pop(request_id, None)
        if sequence is None:
            return False
        self._scheduler.finish(sequence)
        self._interrupt()
        return True

    def advance(self, now: float) -> list[Emission]:
        """Everything that happened up to and including `now` and was not told yet."""
        self._catch_up(now)
        self._run(now, inclusive=True)
        out, self._out = self._out, []
        return out

    def next_event_time(self) -> float | None:
        """When `advance` will next have something other than decoded tokens to do."""
        return self._next_time(whole_jump=True)

    def next_token_time(self) -> float | None:
        """When `advance` will next have anything to tell."""
        return self._next_time(whole_jump=False)

    def stall(self, now: float, until: float = math.inf) -> None:
        """Freeze the engine: no step ends before `until`, nothing else changes."""
        self._catch_up(now)
        since = self._stalled[0] if self._stalled else now
        self._stalled = (since, until)

    def resume(self, now: float) -> None:
        """End a stall now."""
        if self._stalled is not None:
            self._stalled = (self._stalled[0], now)
        self._catch_up(now)

    @property
    def dram(self) -> DramTier | None:
        """The tier behind HBM, for whoever is asked what it holds."""
        return self._store.dram

    def reset_prefix_cache(self, now: float, *, external: bool = False) -> bool:
        """Forget cached blocks, and the DRAM tier's if `external`; False while blocks are in
        use."""
        self._catch_up(now)
        if not self._store.hbm.reset():
            return False
        if self._log is not None:
            self._log.cleared()
        if external and self._store.dram is not None:
            self._store.dram.reset()
        return True

    def match(self, chain: bytes) -> tuple[int, int]:
        """Leading blocks of `chain` that either tier holds, and how many of them lie in HBM."""
        return self._store.match(chain)

    def tell(self, log: BlockLog) -> None:
        """Say from now on what happens to cached blocks."""
        self._log = log
        self._store.tell(log)

    def gauges(self) -> Gauges:
        """State as of the last call."""
        scheduler, store = self._scheduler, self._store
        return Gauges(
            running=len(scheduler.running),
            waiting=len(scheduler.waiting) + len(scheduler.loading),
            deferred=len(scheduler.loading),
            kv_usage=store.hbm.used_blocks / store.hbm.capacity,
            prefix_queries=store.prefix_queries,
            prefix_hits=store.prefix_hits,
            dram_queries=store.dram_queries,
            dram_hits=store.dram_hits,
            prompt_tokens=self._prompt_tokens,
            cached_prompt_tokens=self._cached_prompt_tokens,
            loaded_prompt_tokens=self._loaded_prompt_tokens,
            generation_tokens=self._generation_tokens,
            preemptions=scheduler.preemptions,
            evicted_blocks=store.hbm.evicted_blocks,
        )

    def _next_time(self, *, whole_jump: bool) -> float | None:
        if self._out:
            return self._now
        if self._stalled is not None:
            return self._stalled[1] if self._stalled[1] < math.inf else None
        if self._step is None:
            return self._start_s
        step = self._step
        return step.time_after(step.repeats if whole_jump else step.done + 1)

    def _catch_up(self, now: float) -> None:
        """Apply what ended by `now`, but start no step at `now` itself: requests that come at
        one moment share a step."""
        assert now >= self._now, "time goes forward"
        if self._stalled is not None:
            since, until = self._stalled
            if now < until:
                self._now = now
                return
            self._stalled = None
            self._shift(since, until)
        self._run(now, inclusive=False)
        self._now = now

    def _shift(self, since: float, until: float) -> None:
        """After a stall everything under way ends later by its length."""
        if self._step is not None:
            self._step.start_s += until - since
        if self._start_s is not None:
            self._start_s = max(self._start_s, until)
        self._scheduler.delay_loads(since, until)

    def _run(self, now: float, *, inclusive: bool) -> None:
        if self._stalled is not None:
            return
        while True:
            if self._step is not None:
                steps = self._step.due(now)
                if not steps:
                    return
                self._apply(self._step, steps)
            else:
                start = self._start_s
                if start is None or start > now or (start == now and not inclusive):
                    return
                self._step = self._scheduler.plan(start, self._out)
                if self._step is None:
                    # Still `start` when a sequence preempted itself: now it can be admitted.
                    self._start_s = self._scheduler.next_start(start)
                elif not self._decode_jumps:
                    self._step.repeats = 1

    def _apply(self, step: Step, steps: int) -> None:
        """Account for `steps` steps that ended."""
        step.done += steps
        time_s = step.time_after(step.done)
        more = step.done < step.repeats
        # Blocks are taken when a step starts, so all of them before anyone gives theirs back.
        decodes = [sequence for sequence in step.decodes if sequence.hold is not None]
        for sequence in decodes:
            sequence.computed += steps
            upto = sequence.computed + more
            if upto >= sequence.grow_at:
                grown = self._store.grow(sequence, upto)
                assert grown, "a jump is planned within the free blocks"
        for sequence in decodes:
            self._generated(sequence, steps, time_s)
        for sequence, tokens in step.prefills:
            if sequence.hold is None:
                continue  # aborted while its step was under way
            sequence.computed += tokens
            if sequence.computed == sequence.known:
                self._prefilled(sequence, time_s)
        if not more:
            self._step = None
            self._start_s = self._scheduler.next_start(time_s)

    def _prefilled(self, sequence: Sequence, time_s: float) -> None:
        """The last prefill step of a sequence yields a token, its first unless preempted."""
        request = sequence.request
        sequence.decoding = True
        if sequence.generated:
            self._generated(sequence, 1, time_s)
            return
        self._prompt_tokens += request.prompt_tokens
        self._cached_prompt_tokens += sequence.hbm_hit + sequence.dram_hit + sequence.remote_hit
        self._loaded_prompt_tokens += sequence.dram_hit + sequence.remote_hit
        self._out.append(FirstToken(request.id, time_s))
        self._count(sequence, 1, time_s)

    def _generated(self, sequence: Sequence, count: int, time_s: float) -> None:
        if self._token_emissions:
            self._out.append(Tokens(sequence.request.id, time_s, count))
        self._count(sequence, count, time_s)

    def _count(self, sequence: Sequence, count: int, time_s: float) -> None:
        sequence.generated += count
        self._generation_tokens += count
        if sequence.generated == sequence.request.output_tokens:
            self._end(sequence, time_s, sequence.request.finish_reason)

    def _end(self, sequence: Sequence, time_s: float, reason: FinishReason) -> None:
        request = sequence.request
        del self._sequences[request.id]
        if request.keeps and reason != "abort":
            self._scheduler.retire(sequence)
            self._kept[request.id] = sequence
        else:
            self._scheduler.finish(sequence)
        self._out.append(Finished(sequence.request.id, time_s, reason))

    def _interrupt(self) -> None:
        """The queues changed: let a jump end with the step under way."""
        if self._step is not None:
            self._step.repeats = self._step.done + 1
        else:
            start = self._now if self._start_s is None else min(self._start_s, self._now)
            self._start_s = self._scheduler.next_start(start)
