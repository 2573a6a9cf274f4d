"""Picks the work of each step: continuous batching, chunked prefill, preemption, as vLLM does.

Running sequences go first, in order of admission, one token each if they decode; then waiting
ones in order of arrival while budget, sequences and blocks last. Who cannot get a block preempts
the newest; who is preempted starts again, helped by what is still cached.
"""

from collections import deque
from math import ceil

from loadgen.engine.block_store import BlockStore
from loadgen.engine.messages import Admitted, Emission
from loadgen.engine.rates import EngineLimits, EngineRates
from loadgen.engine.sequence import Sequence, Step


class Scheduler:
    """Queues of sequences: `waiting`, `loading` (from DRAM or a peer) and `running`."""

    def __init__(self, rates: EngineRates, limits: EngineLimits, store: BlockStore) -> None:
        self._rates = rates
        self._limits = limits
        self._store = store
        self.waiting: deque[Sequence] = deque()
        self.loading: list[Sequence] = []
        self.running: list[Sequence] = []
        self.preemptions = 0
        # Each link loads one sequence after the other.
        self._dram_free_s = 0.0
        self._peers_free_s = 0.0
        self._head_blocked = False  # the head did not fit, and no block was released since

    def add(self, sequence: Sequence) -> None:
        self.waiting.append(sequence)

    def finish(self, sequence: Sequence) -> None:
        """Take a sequence out of whatever queue it is in, and release its blocks."""
        self.retire(sequence)
        self._release(sequence)

    def retire(self, sequence: Sequence) -> None:
        """Take it out, its blocks staying where they are until `finish`."""
        for queue in (self.running, self.loading, self.waiting):
            if sequence in queue:
                queue.remove(sequence)

    def next_start(self, now: float) -> float | None:
        """When the next step can begin, at `now` or later; None when there is nothing to do."""
        if self.running or (self.waiting and self._seats() and not self._head_blocked):
            return now
        return min((sequence.ready_s for sequence in self.loading), default=None)

    def delay_loads(self, since: float, until: float) -> None:
        """After a stall loads under way end later by its length."""
        for sequence in self.loading:
            sequence.ready_s += until - since
        self._dram_free_s += until - since
        self._peers_free_s += until - since

    def plan(self, now: float, out: list[Emission]) -> Step | None:
        """The step that starts at `now`: blocks are taken, admissions are added to `out`."""
        self._join_loaded(now)
        decodes: list[Sequence] = []
        prefills: list[tuple[Sequence, int]] = []
        preemptions = self.preemptions
        budget = self._schedule_running(decodes, prefills)
        if self.preemptions == preemptions:
            budget = self._admit_waiting(now, budget, prefills, out)
        if not decodes and not prefills:
            return None
        # Contexts grow by a token a step; over the steps that repeat unseen that is nothing.
        context = sum(sequence.computed for sequence in decodes)
        duration = self._rates.step_base_s + self._rates.decode_s(len(decodes), context)
        for sequence, tokens in prefills:
            duration += self._rates.prefill_s(tokens, sequence.computed)
        repeats = 1
        if prefills:
            self._head_blocked = False  # what this step caches may be what the head needs
        elif budget and len(decodes) == len(self.running):
            repeats = self._decode_repeats(now, duration, decodes)
        return Step(now, duration, decodes, prefills, repeats)

    def _schedule_running(
        self, decodes: list[Sequence], prefills: list[tuple[Sequence, int]]
    ) -> int:
        """Work for running sequences; returns the token budget left."""
        budget = self._limits.max_num_batched_tokens
        running = self.running
        index = 0
        while index < len(running) and budget:
            sequence = running[index]
            decoding = sequence.decoding
            tokens = 1 if decoding else min(sequence.known - sequence.computed, budget)
            upto = sequence.computed + tokens
            if upto >= sequence.grow_at and not self._store.grow(sequence, upto):
                if self._preempt_newest() is sequence:
                    break
                continue
            if decoding:
                decodes.append(sequence)
            else:
                prefills.append((sequence, tokens))
            budget -= tokens
            index += 1
        return budget

    def _admit_waiting(
        self, now: float, budget: int, prefills: list[tuple[Sequence, int]], out: list[Emission]
    ) -> int:
        """Admit from the head of the queue while it fits; returns the token budget left."""
        seats = self._seats()
        while self.waiting and budget and seats and not self._head_blocked:
            sequence = self.waiting[0]
            hits = self._store.admit(sequence)
            if hits is None:
                self._head_blocked = True
                break
            self.waiting.popleft()
            seats -= 1
            computed = sequence.known - sum(hits)
            hbm_hit, dram_hit, remote_hit = hits
            queue_s = now - sequence.arrival_s
            name = sequence.request.id
            out.append(Admitted(name, now, queue_s, hbm_hit, dram_hit, computed, remote_hit))
            if dram_hit + remote_hit:
                sequence.ready_s = self._load(now, dram_hit, remote_hit)
                self.loading.append(sequence)
                continue
            self.running.append(sequence)
            tokens = min(computed, budget)
            grown = self._store.grow(sequence, sequence.computed + tokens)
            assert grown, "admission checked that the whole prompt fits"
            prefills.append((sequence, tokens))
            budget -= tokens
        return budget

    def _load(self, now: float, dram_hit: int, remote_hit: int) -> float:
        """When both loads will have ended."""
        if dram_hit:
            self._dram_free_s = max(now, self._dram_free_s) + dram_hit / self._rates.dram_tok_s
        if remote_hit:
            free_s = max(now, self._peers_free_s)
            self._peers_free_s = free_s + remote_hit / self._rates.transfer_tok_s
        return max(
            self._dram_free_s if dram_hit else now, self._peers_free_s if remote_hit else now
        )

    def _join_loaded(self, now: float) -> None:
        """Sequences whose load has ended go on with the rest of their prefill."""
        if not self.loading:
            return
        for sequence in [s for s in self.loading if s.ready_s <= now]:
            self.loading.remove(sequence)
            self._store.loaded(sequence)
            self.running.append(sequence)

    def _decode_repeats(self, now: float, duration: float, decodes: list[Sequence]) -> int:
        """How many times this decode-only step can run before anything else can happen: a
        sequence ends, a load ends, or blocks run out."""
        repeats = min(sequence.remaining for sequence in decodes)
        for sequence in self.loading:
            repeats = min(repeats, max(1, ceil((sequence.ready_s - now) / duration - 1e-9)))
        if self._store.fits(decodes, repeats):
            return repeats
        low, high = 1, repeats  # one step has its blocks already; `high` steps do not fit
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if self._store.fits(decodes, middle) else (low, middle)
        return low

    def _seats(self) -> int:
        return self._limits.max_num_seqs - len(self.running) - len(self.loading)

    def _preempt_newest(self) -> Sequence:
        victim = self.running.pop()
        self._release(victim)
        victim.preemptions += 1
        self.preemptions += 1
        self.waiting.appendleft(victim)
        return victim

    def _release(self, sequence: Sequence) -> None:
        self._store.release(sequence)
        self._head_blocked = False
