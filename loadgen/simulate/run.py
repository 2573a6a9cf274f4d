"""One simulated arm: N conversations through one policy, and what came of it."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from math import inf
from statistics import fmean

from kvproxy.core.admission import Admission, AdmissionLimits
from kvproxy.core.affinity import Affinity
from kvproxy.core.allowance import AllowanceLimits
from kvproxy.core.disagg.choice import Terms
from kvproxy.core.disagg.connectors import Peer
from kvproxy.core.disagg.plan import Disagg
from kvproxy.core.disagg.transfer_rate import TransferRate
from kvproxy.core.learn import PrefillRate
from kvproxy.core.life_cycle import Health, LifeCycle
from kvproxy.core.policies import PolicyName
from kvproxy.core.prefix_tree import PrefixTree
from kvproxy.core.replica import Replica, Role
from kvproxy.core.router import Router
from kvproxy.core.score import Weights
from loadgen.engine_model import Engine, EngineLimits, EngineRates
from loadgen.ramp.choose import RampRule, controller_of
from loadgen.ramp.controller import Controller
from loadgen.schedule import Timing, TraceQueue
from loadgen.simulate.fluid import FluidEngine
from loadgen.simulate.lanes import Lane, Stage
from loadgen.simulate.oracle import Oracle
from loadgen.simulate.prompts import ExactRuler
from loadgen.simulate.ramp import Ramp
from loadgen.simulate.world import Sample, World
from loadgen.traces.model import Trace
from loadgen.warm import Warm

# A cache that nothing of a run can fill.
INFINITE_TOKENS = 10**9
_SESSIONS_MAX = 1_000_000


@dataclass(frozen=True, slots=True)
class Split:
    """Prompts may be computed apart: on the first `prefillers` replicas alone, which then do
    nothing else, or where `prefillers` is 0 on any."""

    terms: Terms
    prefillers: int = 0

    def role(self, index: int) -> Role:
        if not self.prefillers:
            return Role.BOTH
        return Role.PREFILL if index < self.prefillers else Role.DECODE


@dataclass(frozen=True, slots=True)
class Setup:
    """What all arms of a comparison share. `duration_s` None: until every trace was played; it
    must be given with a `ramp`, which adds users instead of starting all of them. `unnamed`:
    clients name no conversation."""

    conversations: int
    replicas: int
    rates: EngineRates = field(default_factory=EngineRates)
    limits: EngineLimits = field(default_factory=lambda: EngineLimits(block_size=64))
    fluid: bool = False
    duration_s: float | None = None
    timing: Timing = field(default_factory=Timing)
    warm_prefix_pct: float = 0.5
    output_tokens_max: int | None = None
    seed: int = 1
    oracle: bool = False
    unnamed: bool = False
    ramp: RampRule | None = None
    disagg: Split | None = None

    def without_limit(self) -> "Setup":
        limits = replace(self.limits, hbm_tokens=INFINITE_TOKENS, dram_tokens=0)
        return replace(self, limits=limits)


@dataclass(frozen=True, slots=True)
class Arm:
    """A policy and whether it holds work back; both as `kvproxy serve` would run them."""

    policy: PolicyName
    holds_back: bool
    weights: Weights = field(default_factory=Weights)
    admission: AdmissionLimits = field(default_factory=lambda: AdmissionLimits(AllowanceLimits()))

    @classmethod
    def named(cls, name: str) -> "Arm":
        """`seconds` holds back, the others do not; `NAME+queue` and `NAME-queue` say otherwise."""
        base, _, holds_back = name.removesuffix("-queue").partition("+")
        if holds_back not in ("", "queue"):
            raise ValueError(f"{name!r}: after + only `queue` is known")
        policy = PolicyName(base)
        default = policy is PolicyName.SECONDS and not name.endswith("-queue")
        return cls(policy, bool(holds_back) or default)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run did; `clock_s` is when it ended, `ramp` what decided on users, if anything did.
    `silent` had no first token by then."""

    samples: Sequence[Sample]
    clock_s: float
    queue_length_max: int
    ramp: Controller | None = None
    silent: Sequence[Sample] = ()

    @classmethod
    def of(cls, world: World, ramp: Controller | None = None) -> "Outcome":
        silent = [sample for sample in world.in_flight() if not sample.first_token_at]
        return cls(world.samples, world.now, world.queue_length_max, ramp, silent)


class TooShortError(ValueError):
    """Nothing finished in the time that was given."""


def simulate(traces: Sequence[Trace], setup: Setup, arm: Arm) -> Outcome:
    """Deterministic in its arguments."""
    world = world_of(setup, arm)
    queue = TraceQueue(traces, setup.seed, recycle=setup.duration_s is not None)
    stage = Stage(
        world,
        queue,
        setup.timing,
        Warm.of(traces, setup.warm_prefix_pct),
        {},
        setup.output_tokens_max,
    )
    found: Controller | None = None
    if setup.ramp is not None:
        ramp = Ramp(controller_of(setup.ramp), world, lambda: Lane(stage))
        ramp.start(0.0)
        found = ramp.controller
    else:
        for start_s in setup.timing.starts_s(setup.conversations, setup.seed):
            world.at(start_s, Lane(stage).begin)
    world.run(setup.duration_s if setup.duration_s is not None else inf)
    return Outcome.of(world, found)


def world_of(setup: Setup, arm: Arm) -> World:
    """A fleet at rest, in which nobody asks yet."""
    engines = [_engine(setup) for _ in range(setup.replicas)]
    router = _router(setup, arm, engines)
    limits = arm.admission if arm.holds_back else replace(arm.admission, backlog_s=inf)
    return World(router, Admission(router, limits), engines, unnamed=setup.unnamed)


def _router(setup: Setup, arm: Arm, engines: Sequence[Engine | FluidEngine]) -> Router:
    replicas = [
        Replica(
            id=f"replica-{index}",
            url="",
            hbm_tokens=setup.limits.hbm_tokens,
            rate=PrefillRate(
                setup.rates.prefill_tok_s, setup.rates.step_base_s, setup.rates.attn_s_per_tok2
            ),
            block_size=setup.limits.block_size,
            life=LifeCycle(health=Health.READY),
            dram=_dram(setup.limits),
            role=setup.disagg.role(index) if setup.disagg is not None else Role.BOTH,
            peer=Peer("", 0) if setup.disagg is not None else None,
        )
        for index in range(setup.replicas)
    ]
    ruler = ExactRuler(setup.limits.block_size)
    names = [replica.id for replica in replicas]
    router = Router(
        replicas,
        arm.policy,
        affinity=Affinity(_SESSIONS_MAX, inf),
        ruler=ruler,
        weights=replace(arm.weights, dram_tok_s=setup.rates.dram_tok_s),
        seed=setup.seed,
        holdings=Oracle(ruler, dict(zip(names, engines, strict=True))) if setup.oracle else None,
    )
    if setup.disagg is not None:
        rate = TransferRate(setup.rates.transfer_tok_s)
        router.disagg = Disagg(setup.disagg.terms, rate)
    return router


def _dram(limits: EngineLimits) -> PrefixTree | None:
    return PrefixTree(limits.dram_tokens) if limits.dram_tokens else None


def _engine(setup: Setup) -> Engine | FluidEngine:
    if setup.fluid:
        return FluidEngine(setup.rates, setup.limits)
    return Engine(setup.rates, setup.limits, token_emissions=False)


@dataclass(frozen=True, slots=True)
class Summary:
    """Figures of an arm, of requests that finished. Rates are shares of prompt tokens; times
    seconds of virtual time; itl is the mean time between the tokens of one answer, and its
    quantiles are over answers. `silent_beyond_p95` had waited longer than p95 for a first token
    when the run ended, up to `silent_max_s`: of those the other figures know nothing."""

    requests: int
    requests_per_s: float
    hit_rate_predicted: float
    hit_rate_reported: float
    within_one_block: float
    ttft_mean_s: float
    ttft_p50_s: float
    ttft_p95_s: float
    ttft_p99_s: float
    ttft_max_s: float
    itl_p50_s: float
    itl_p99_s: float
    e2e_mean_s: float
    waited_max_s: float
    queue_length_max: int
    stretch_p50: float
    stretch_max: float
    jain_fairness: float
    replica_imbalance: float
    silent_beyond_p95: int
    silent_max_s: float


def summarise(outcome: Outcome, setup: Setup) -> Summary:
    samples = outcome.samples
    if not samples:
        raise TooShortError("nothing finished: the run was too short")
    prompt = sum(sample.prompt_tokens for sample in samples)
    ttft = sorted(sample.ttft_s for sample in samples)
    itl = sorted(each for sample in samples if (each := sample.itl_s) is not None) or [0.0]
    block = setup.limits.block_size
    near = sum(abs(sample.predicted - sample.cached) <= block for sample in samples)
    stretch = sorted(_stretches(samples, setup.rates))
    p95_s = _quantile(ttft, 0.95)
    waits = [outcome.clock_s - sample.asked_at for sample in outcome.silent]
    work = [0] * setup.replicas
    for sample in samples:
        work[sample.replica] += sample.prompt_tokens - sample.cached
    return Summary(
        requests=len(samples),
        requests_per_s=len(samples) / outcome.clock_s,
        hit_rate_predicted=sum(sample.predicted for sample in samples) / prompt,
        hit_rate_reported=sum(sample.cached for sample in samples) / prompt,
        within_one_block=near / len(samples),
        ttft_mean_s=fmean(ttft),
        ttft_p50_s=_quantile(ttft, 0.5),
        ttft_p95_s=p95_s,
        ttft_p99_s=_quantile(ttft, 0.99),
        ttft_max_s=ttft[-1],
        itl_p50_s=_quantile(itl, 0.5),
        itl_p99_s=_quantile(itl, 0.99),
        e2e_mean_s=fmean(sample.finished_at - sample.asked_at for sample in samples),
        waited_max_s=max(sample.waited_s for sample in samples),
        queue_length_max=outcome.queue_length_max,
        stretch_p50=_quantile(stretch, 0.5),
        stretch_max=stretch[-1],
        jain_fairness=jain([1 / value for value in stretch]),
        replica_imbalance=max(work) / max(1.0, fmean(work)),
        silent_beyond_p95=sum(wait > p95_s for wait in waits),
        silent_max_s=max(waits, default=0.0),
    )


def jain(shares: Sequence[float]) -> float:
    """1 when all are equal, 1/n when one has everything."""
    squares = sum(share * share for share in shares)
    return sum(shares) ** 2 / (len(shares) * squares) if squares else 1.0


def _stretches(samples: Sequence[Sample], rates: EngineRates) -> list[float]:
    """Per conversation: time spent waiting for answers over what an idle engine that had cached
    all of each previous prompt would have taken."""
    spent: defaultdict[str, float] = defaultdict(float)
    ideal: defaultdict[str, float] = defaultdict(float)
    before: dict[str, int] = {}
    for sample in samples:
        name = sample.conversation
        new = max(1, sample.prompt_tokens - before.get(name, 0))
        before[name] = sample.prompt_tokens
        spent[name] += sample.finished_at - sample.asked_at
        decode_s = sample.output_tokens * rates.decode_step_s
        ideal[name] += rates.prefill_s(new, sample.prompt_tokens - new) + decode_s
    return [max(1.0, spent[name] / ideal[name]) for name in spent]


def _quantile(ordered: Sequence[float], share: float) -> float:
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
