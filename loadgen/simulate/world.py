"""Virtual time: conversations, the router's core and engines, moved from event to event.

The router sees what a real one would: its own predictions, first tokens, ends and usage figures.
"""

import heapq
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import count

from kvproxy.core.admission import Admission
from kvproxy.core.line import Ticket
from kvproxy.core.router import Placement, Router
from kvproxy.core.types import Chain, Identity, Usage
from loadgen.engine_model import Admitted, Engine, Finished, FirstToken, Request
from loadgen.simulate.fluid import FluidEngine
from loadgen.simulate.prompts import Measures, Prompt


@dataclass(slots=True)
class Sample:
    """One request. Times are virtual seconds, sizes tokens; `cached` is what the engine hit."""

    conversation: str
    prompt: Prompt
    output_tokens: int
    asked_at: float
    placed_at: float = 0.0
    first_token_at: float = 0.0
    finished_at: float = 0.0
    replica: int = 0
    predicted: int = 0
    cached: int = 0

    @property
    def prompt_tokens(self) -> int:
        return self.prompt.tokens

    @property
    def ttft_s(self) -> float:
        return self.first_token_at - self.asked_at

    @property
    def itl_s(self) -> float | None:
        if not self.finished_at or self.output_tokens < 2:
            return None
        return (self.finished_at - self.first_token_at) / (self.output_tokens - 1)

    @property
    def waited_s(self) -> float:
        return self.placed_at - self.asked_at


@dataclass(slots=True, eq=False)
class _Running:
    sample: Sample
    placement: Placement
    done: Callable[[float], None]
    admitted: bool = False
    leg: str = ""  # the request that prefills for this one, until its KV was loaded


@dataclass(slots=True, eq=False)
class _Leg:
    """A prompt that is computed for another engine. `cached` tokens of it were held."""

    placement: Placement
    running: _Running
    cached: int = 0


class World:
    """`engines[i]` stands behind `router.replicas[i]`. `unnamed`: requests come without what names
    their conversation."""

    def __init__(
        self,
        router: Router,
        admission: Admission,
        engines: Sequence[Engine | FluidEngine],
        *,
        unnamed: bool = False,
    ) -> None:
        assert len(engines) == len(router.replicas)
        self.now = 0.0
        self.samples: list[Sample] = []
        self._router = router
        self._admission = admission
        self._engines = engines
        self._unnamed = unnamed
        self._index = {replica.id: i for i, replica in enumerate(router.replicas)}
        self._measures = Measures(engines[0].limits.block_size)
        self._ids = count()
        self._tick = count()
        self._events: list[tuple[float, int, Callable[[float], None]]] = []
        self._due: list[float | None] = [None] * len(engines)
        self._asking: dict[int, tuple[Sample, Callable[[float], None]]] = {}
        self._running: dict[str, _Running] = {}
        self._legs: dict[str, _Leg] = {}
        self.queue_length_max = 0
        self._stopped = False

    def at(self, time_s: float, action: Callable[[float], None]) -> None:
        heapq.heappush(self._events, (time_s, next(self._tick), action))

    def run(self, until_s: float) -> None:
        """Until nothing is left to happen, the clock reaches `until_s` or someone calls `stop`."""
        while self._events and self._events[0][0] <= until_s and not self._stopped:
            self.now, _, action = heapq.heappop(self._events)
            action(self.now)

    def stop(self) -> None:
        self._stopped = True

    def in_flight(self) -> list[Sample]:
        """Asked and not finished, whether placed or not."""
        waiting = [sample for sample, _ in self._asking.values()]
        waiting += [leg.running.sample for leg in self._legs.values()]
        return waiting + [running.sample for running in self._running.values()]

    def ask(
        self, identity: Identity, prompt: Prompt, output_tokens: int, done: Callable[[float], None]
    ) -> None:
        """Send a turn now; `done` is called when its answer has ended."""
        chain = Chain(0, prompt.hashes, self._measures.of(len(prompt.hashes)))
        name = f"{identity.session}/{identity.agent}" if identity.agent else identity.session
        if self._unnamed:
            identity = Identity(identity.tenant, identity.model, "")
        ticket = Ticket(identity, chain, self.now)
        sample = Sample(name, prompt, output_tokens, self.now)
        self._asking[id(ticket)] = (sample, done)
        self._admission.enter(ticket, self.now)
        self._poll()

    def _poll(self) -> None:
        for ticket, placement in self._admission.poll(self.now):
            assert isinstance(placement, Placement), "no replica ever goes away here"
            sample, done = self._asking.pop(id(ticket))
            self._start(sample, placement, done)
        self.queue_length_max = max(self.queue_length_max, self._admission.length)

    def _start(self, sample: Sample, placement: Placement, done: Callable[[float], None]) -> None:
        index = self._index[placement.replica.id]
        sample.placed_at = self.now
        sample.replica = index
        sample.predicted = placement.predicted_cached_tokens
        running = _Running(sample, placement, done)
        if placement.prefill is None:
            remote = placement.placing.remote
            self._submit(running, remote.match.tokens if remote is not None else 0)
        else:
            self._prefill(running, placement.prefill)

    def _submit(self, running: _Running, remote_tokens: int = 0) -> None:
        key, sample, index = str(next(self._ids)), running.sample, running.sample.replica
        self._running[key] = running
        chain, tokens = sample.prompt.hashes.tobytes(), sample.prompt_tokens
        request = Request(
            key, chain, tokens, sample.output_tokens, remote_tokens=min(remote_tokens, tokens)
        )
        self._engines[index].submit(request, self.now)
        self._schedule(index)

    def _prefill(self, running: _Running, placement: Placement) -> None:
        """The leg that computes the prompt; its end starts the one that answers."""
        key, sample = str(next(self._ids)), running.sample
        self._legs[key] = _Leg(placement, running)
        index = self._index[placement.replica.id]
        request = Request(key, sample.prompt.hashes.tobytes(), sample.prompt_tokens, 1, keeps=True)
        self._engines[index].submit(request, self.now)
        self._schedule(index)

    def _schedule(self, index: int) -> None:
        """One wake-up per engine is pending at a time; an earlier one replaces it."""
        due = self._engines[index].next_event_time()
        if due is not None and due != self._due[index]:
            self._due[index] = due
            self.at(due, lambda now: self._wake(index, now))

    def _wake(self, index: int, now: float) -> None:
        if self._due[index] != now:
            return
        self._due[index] = None
        self._hear(self._engines[index].advance(now))
        self._schedule(index)
        self._poll()

    def _hear(self, emissions: Iterable[object]) -> None:
        for emission in emissions:
            match emission:
                case Admitted(id=key, hbm_hit=hbm, dram_hit=dram) if key in self._legs:
                    leg = self._legs[key]
                    leg.cached = leg.cached or hbm + dram
                case Admitted(id=key, hbm_hit=hbm, dram_hit=dram, remote_hit=remote):
                    running = self._running[key]
                    if not running.admitted:
                        # Engines report what the first admission found, not one after preemption.
                        running.admitted = True
                        running.sample.cached = hbm + dram + remote
                case FirstToken(id=key, time_s=at) if key in self._legs:
                    self._router.first_token(self._legs[key].placement, at)
                case FirstToken(id=key, time_s=at):
                    running = self._running[key]
                    running.sample.first_token_at = at
                    self._router.first_token(running.placement, at)
                    self._loaded(running, at)
                case Finished(id=key, time_s=at) if key in self._legs:
                    self._prefilled(key, at)
                case Finished(id=key, time_s=at):
                    self._finish(key, at)

    def _prefilled(self, key: str, at: float) -> None:
        leg = self._legs.pop(key)
        sample = leg.running.sample
        leg.running.leg = key
        # What was computed for this prompt was computed there.
        sample.cached, leg.running.admitted = leg.cached, True
        self._router.finish(leg.placement, Usage(sample.prompt_tokens, 1, leg.cached), at)
        self._submit(leg.running, sample.prompt_tokens)

    def _loaded(self, running: _Running, at: float) -> None:
        """Its KV has arrived: the engine it came from may forget it."""
        prefill = running.placement.prefill
        if prefill is None or not running.leg:
            return
        engine = self._engines[self._index[prefill.replica.id]]
        assert isinstance(engine, Engine)
        engine.let_go(running.leg, at)
        running.leg = ""
        self._schedule(self._index[prefill.replica.id])

    def _finish(self, key: str, at: float) -> None:
        running = self._running.pop(key)
        sample = running.sample
        sample.finished_at = at
        self.samples.append(sample)
        usage = Usage(sample.prompt_tokens, sample.output_tokens, sample.cached)
        self._router.finish(running.placement, usage, at)
        running.done(at)
