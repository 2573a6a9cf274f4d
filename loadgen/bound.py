"""The hit rate that a cache without limit would have had for exactly what was sent."""

from collections.abc import Iterable, Sequence

from loadgen.plan import Plan, Plans
from loadgen.sample import Sample
from loadgen.traces.model import Trace


class InfiniteCache:
    """Longest prefix shared with anything sent before, fed request by request as it is sent.

    Lengths are floored to the engine's block, and the last token never counts: an engine always
    computes at least one.
    """

    def __init__(self, engine_block_size: int) -> None:
        self._block_size = engine_block_size
        self._warm: dict[str, int] = {}
        self._common: dict[tuple[Plan, int], PlayCache] = {}

    def play(self, plan: Plan, play: int = 0) -> "PlayCache":
        """The cache as one play of a trace sees it; drop it when the play ends. Traces with
        common block ids share what an equal play of any of them has sent."""
        if not plan.shared:
            return PlayCache(self, plan)
        return self._common.setdefault((plan, play), PlayCache(self, plan))

    def floored(self, shared: int, prompt_tokens: int) -> int:
        shared = min(shared, prompt_tokens - 1)
        return max(0, shared // self._block_size * self._block_size)

    def share_warm(self, kind: str, tokens: int) -> int:
        """Warm tokens already sent by anyone; those of this prompt count from now on."""
        known = self._warm.get(kind, 0)
        self._warm[kind] = max(known, tokens)
        return min(known, tokens)


class PlayCache:
    """What one play has sent so far, as the furthest token on each of its branches."""

    def __init__(self, cache: InfiniteCache, plan: Plan) -> None:
        self._cache = cache
        self._plan = plan
        self._seen = [0] * len(plan.tree.branches)

    def send(self, request: int) -> int:
        """Cached tokens an unlimited cache would report for this request, sent now."""
        plan = self._plan
        prompt_tokens = plan.planned_tokens(request)
        place = plan.layout.places[request]
        shared, unbroken = 0, True
        for branch in place.branch.path()[1:]:
            last = branch is place.branch
            reached = prompt_tokens if last else plan.layout.stop[branch.number]
            if unbroken:
                shared = max(shared, min(self._seen[branch.number], reached))
                unbroken = self._seen[branch.number] >= reached
            self._seen[branch.number] = max(self._seen[branch.number], reached)
        shared = max(shared, self._cache.share_warm(*plan.warm_tokens(request)))
        return self._cache.floored(shared, prompt_tokens)


def recount(
    samples: Iterable[Sample], traces: Sequence[Trace], plans: Plans, engine_block_size: int
) -> None:
    """Set every sample's bound as one cache sees all of them, in the order they were sent: what
    several workers sent beside each other, each of them counted for itself."""
    cache, plays = InfiniteCache(engine_block_size), dict[str, PlayCache]()
    lanes = {
        (trace.id, agent.agent_id): lane
        for trace in traces
        for lane, agent in enumerate(trace.sub_agents, 1)
    }
    known = {trace.id: trace for trace in traces}
    for sample in sorted(samples, key=lambda one: one.t_intended + (one.lag_s or 0.0)):
        trace = known[sample.trace]
        plan = plans.of(trace)
        if sample.conversation not in plays:
            number = int(sample.conversation.rpartition("-")[2])
            plays[sample.conversation] = cache.play(plan, number)
        lane = lanes[trace.id, sample.agent] if sample.agent else 0
        request = plan.request(plan.lane_of(trace) + lane, sample.turn)
        sample.bound_tokens = plays[sample.conversation].send(request)
