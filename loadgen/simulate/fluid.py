"""An engine whose decodes cost its prefill nothing: the model behind published routing limits.

One prompt is prefilled at a time, first come first served; every decode runs beside it at a fixed
pace. Against `Engine`, which shares each step between the two, it tells placement apart from
interference. Blocks come from the same pool with the same eviction order.
"""

import heapq
from collections import deque

from loadgen.engine.messages import Admitted, Emission, Finished, FirstToken, Request
from loadgen.engine.rates import EngineLimits, EngineRates
from loadgen.engine.run_tree import HASH_BYTES, Hold, RunTree


class FluidEngine:
    """Same calls as `Engine`, without a DRAM tier, aborts or faults."""

    def __init__(self, rates: EngineRates, limits: EngineLimits) -> None:
        assert limits.dram_tokens == 0, "the fluid engine has one tier"
        self.rates = rates
        self.limits = limits
        self._pool = RunTree(limits.num_blocks)
        self._waiting: deque[tuple[Request, float]] = deque()
        self._prefilling: tuple[float, Request, Hold] | None = None
        self._decoding: list[tuple[float, int, Request, Hold]] = []
        self._count = 0

    def submit(self, request: Request, now: float) -> None:
        self._waiting.append((request, now))

    def next_event_time(self) -> float | None:
        times = [self._decoding[0][0]] if self._decoding else []
        if self._prefilling is not None:
            times.append(self._prefilling[0])
        elif self._waiting and (not times or self._fits(self._waiting[0][0])):
            times.append(self._waiting[0][1])
        return min(times) if times else None

    def advance(self, now: float) -> list[Emission]:
        """Everything up to and including `now`."""
        out: list[Emission] = []
        while True:
            ends = self._decoding[0][0] if self._decoding else now + 1
            prefilled = self._prefilling[0] if self._prefilling is not None else now + 1
            if min(ends, prefilled) <= now:
                self._end_decode(out) if ends <= prefilled else self._end_prefill(out)
            elif self._prefilling is None and self._waiting and self._fits(self._waiting[0][0]):
                self._begin(now, out)
            else:
                return out

    def match(self, chain: bytes) -> tuple[int, int]:
        """Leading blocks of `chain` that are held, all of them in HBM."""
        blocks = self._pool.match(chain, len(chain) // HASH_BYTES).blocks
        return blocks, blocks

    def _blocks(self, request: Request) -> int:
        tokens = request.prompt_tokens + request.output_tokens
        return -(-tokens // self.limits.block_size)

    def _hit(self, request: Request) -> tuple[int, int]:
        limit = min((request.prompt_tokens - 1) // self.limits.block_size, len(request.chain) // 8)
        match = self._pool.match(request.chain, limit)
        return match.blocks, match.unpinned

    def _fits(self, request: Request) -> bool:
        blocks, unpinned = self._hit(request)
        return self._blocks(request) - blocks + unpinned <= self._pool.free_blocks

    def _begin(self, now: float, out: list[Emission]) -> None:
        request, asked_at = self._waiting.popleft()
        blocks, _ = self._hit(request)
        hold = self._pool.pin(request.chain, blocks)
        taken = self._pool.allocate(hold, self._blocks(request) - blocks)
        assert taken, "_fits() said so"
        hit = blocks * self.limits.block_size
        miss = request.prompt_tokens - hit
        self._prefilling = (now + self.rates.prefill_s(miss, hit), request, hold)
        out.append(Admitted(request.id, now, now - asked_at, hit, 0, miss))

    def _end_prefill(self, out: list[Emission]) -> None:
        assert self._prefilling is not None
        at, request, hold = self._prefilling
        self._prefilling = None
        self._pool.insert(hold, request.chain, len(request.chain) // HASH_BYTES)
        out.append(FirstToken(request.id, at))
        self._count += 1
        end = at + (request.output_tokens - 1) * self.rates.decode_step_s
        heapq.heappush(self._decoding, (end, self._count, request, hold))
        if self._waiting:
            head, asked_at = self._waiting[0]
            self._waiting[0] = (head, max(asked_at, at))

    def _end_decode(self, out: list[Emission]) -> None:
        at, _, request, hold = heapq.heappop(self._decoding)
        self._pool.unpin(hold)
        out.append(Finished(request.id, at, request.finish_reason))
