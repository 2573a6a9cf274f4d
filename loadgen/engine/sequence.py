"""One request on its way through the scheduler, and the step that works on several of them."""

from loadgen.engine.messages import Request
from loadgen.engine.run_tree import Hold


class Sequence:
    """Progress of one request. `computed` tokens have KV; `known` tokens exist, the prompt and
    what was generated. Prefill closes the gap between them to one, then the sequence decodes."""

    __slots__ = (
        "arrival_s",
        "blocks",
        "chunks",
        "computed",
        "counted",
        "decoding",
        "dram_hit",
        "generated",
        "grow_at",
        "hbm_hit",
        "hold",
        "preemptions",
        "ready_s",
        "remote_hit",
        "request",
        "stored_chunks",
    )

    def __init__(self, request: Request, arrival_s: float) -> None:
        self.request = request
        self.arrival_s = arrival_s
        self.hold: Hold | None = None  # None unless blocks are held
        self.blocks = 0  # blocks covering the sequence, pinned or private
        self.grow_at = 0  # computed tokens from which a block must be taken or cached
        self.decoding = False
        self.computed = 0
        self.generated = 0
        self.ready_s = 0.0  # when a load ends
        self.chunks = b""
        self.stored_chunks = 0
        self.hbm_hit = self.dram_hit = self.remote_hit = 0  # tokens, at the first admission
        self.counted = False  # in the hit counters: a preempted request counts once
        self.preemptions = 0

    @property
    def known(self) -> int:
        return self.request.prompt_tokens + self.generated

    @property
    def remaining(self) -> int:
        return self.request.output_tokens - self.generated


class Step:
    """`repeats` equal steps of `duration_s` from `start_s`, of which `done` are applied.

    Only decode repeats: nothing changes between two decode-only steps but counters.
    """

    __slots__ = ("decodes", "done", "duration_s", "prefills", "repeats", "start_s")

    def __init__(
        self,
        start_s: float,
        duration_s: float,
        decodes: list[Sequence],
        prefills: list[tuple[Sequence, int]],
        repeats: int,
    ) -> None:
        assert duration_s > 0 and repeats >= 1
        self.start_s = start_s
        self.duration_s = duration_s
        self.decodes = decodes
        self.prefills = prefills
        self.repeats = repeats
        self.done = 0

    def time_after(self, steps: int) -> float:
        return self.start_s + self.duration_s * steps

    def due(self, now: float) -> int:
        """How many further steps have ended by `now`."""
        if now >= self.time_after(self.repeats):
            return self.repeats - self.done
        ended = int((now - self.start_s) / self.duration_s + 1e-9)
        return max(0, min(ended, self.repeats - 1) - self.done)
