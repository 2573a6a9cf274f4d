"""Random lives of requests under every policy: what is reserved is given back, to the last bit."""

from dataclasses import dataclass, field
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvproxy.core.errors import ProxyError
from kvproxy.core.life_cycle import Health
from kvproxy.core.line import Line, Ticket
from kvproxy.core.placement import Decided
from kvproxy.core.policies import PolicyName
from kvproxy.core.replica import Replica
from kvproxy.core.router import Placement, Router
from kvproxy.core.runs import Run
from kvproxy.core.score import Score, Weights
from kvproxy.core.types import Chain, Identity, Usage
from tests.support.makers import make_chain, make_replica, make_router

RANDOMS = st.randoms(use_true_random=False)
FEWER = settings(max_examples=settings().max_examples // 3)
POLICIES = pytest.mark.parametrize("policy", list(PolicyName))


@dataclass
class Life:
    """Drives a router at random; keeps what was decided."""

    random: Random
    router: Router
    now: float = 0.0
    open: list[tuple[Placement, bool]] = field(default_factory=list)
    decisions: list[object] = field(default_factory=list)

    def step(self) -> None:
        self.now += self.random.random()
        kind = self.random.random()
        if kind < 0.4 or not self.open:
            self.arrive()
        elif kind < 0.6:
            index = self.random.randrange(len(self.open))
            placement, _ = self.open[index]
            self.router.first_token(placement, self.now)
            self.open[index] = (placement, True)
        else:
            self.end(self.open.pop(self.random.randrange(len(self.open)))[0])
        if self.random.random() < 0.1:
            replica = self.random.choice(self.router.replicas)
            replica.life.health = self.random.choice(list(Health))
            if self.random.random() < 0.3:
                replica.hbm.clear()

    def arrive(self) -> None:
        random = self.random
        names = [replica.id for replica in self.router.replicas]
        exclude = frozenset(random.sample(names, random.choice([0, 0, 0, 1, 2])))
        model = random.choice(["", "m", "m", "other", "third"])
        serving = [
            replica
            for replica in self.router.replicas
            if replica.id not in exclude and replica.serves(model)
        ]
        eligible = best(serving)
        try:
            if not model:
                placement = self.router.place_anywhere(self.now, exclude)
            else:
                identity = Identity("t", model, random.choice(["", "s1", "s2", "s3", "s4"]))
                placement = self.router.place(identity, some_chain(random), self.now, exclude)
        except ProxyError as error:
            self.refused(error, eligible)
            return
        assert placement.replica in eligible
        self.decisions.append((placement.replica.id, placement.placing.score.terms()))
        self.open.append((placement, False))

    def refused(self, error: ProxyError, eligible: list[Replica]) -> None:
        assert error.code in ("no_replica", "model_not_found")
        assert not eligible
        self.decisions.append(error.code)

    def end(self, placement: Placement) -> None:
        if self.random.random() < 0.4:
            self.router.abort(placement, self.now)
            return
        usage = None
        if self.random.random() < 0.8:
            prompt = self.random.randint(0, 4000)
            cached = self.random.choice([None, 0, self.random.randint(0, prompt)])
            usage = Usage(prompt, self.random.randint(0, 500), cached)
        self.router.finish(placement, usage, self.now)

    def end_all(self) -> None:
        while self.open:
            self.end(self.open.pop()[0])


def best(replicas: list[Replica]) -> list[Replica]:
    """Those that are well; else those that may be; else those that are not."""
    by_health: dict[Health, list[Replica]] = {}
    for replica in replicas:
        by_health.setdefault(replica.health, []).append(replica)
    proving = by_health.get(Health.PROBING, [])
    idle = [replica for replica in proving if not replica.load.in_flight]
    return (
        by_health.get(Health.READY, []) + idle
        or proving + by_health.get(Health.SUSPECT, [])
        or by_health.get(Health.EJECTED, [])
    )


def some_chain(random: Random) -> Chain:
    return make_chain(*("x" * 50 + random.choice("ab") for _ in range(random.randint(0, 8))))


def new_life(random: Random, policy: PolicyName, seed: int = 0) -> Life:
    models = [(), ("m",), ("m", "other"), ("other",)]
    replicas = [
        make_replica(
            f"r{index}", hbm_tokens=random.choice([0, 20, 200, 10_000]), models=models[index]
        )
        for index in range(4)
    ]
    return Life(random, make_router(replicas, policy, seed=seed, max_sessions=3, idle_s=20.0))


def pins(run: Run) -> int:
    return run.pins + sum(pins(child) for child in run.children.values())


def check_never_negative(router: Router) -> None:
    for replica in router.replicas:
        load = replica.load
        assert load.in_flight >= len(load.waiting) >= 0
        assert load.waiting_s == pytest.approx(sum(h.prefill_s for h in load.waiting.values()))
        assert all(hold.prefill_s >= 0 for hold in load.waiting.values())
        assert replica.hbm.size >= 0
        assert router.affinity.sessions(replica.id) >= 0


@POLICIES
@FEWER
@given(RANDOMS)
def test_all_that_was_reserved_is_given_back(policy: PolicyName, random: Random) -> None:
    life = new_life(random, policy)
    for _ in range(60):
        life.step()
        check_never_negative(life.router)
    life.end_all()
    for replica in life.router.replicas:
        load = replica.load
        assert (load.in_flight, len(load.waiting), load.waiting_s) == (0, 0, 0.0)
        assert load.queue_s(life.now) == 0.0
        assert pins(replica.hbm._root) == 0
        assert replica.hbm.size <= replica.hbm.capacity


@POLICIES
@FEWER
@given(st.integers(0, 2**32), st.integers(0, 3))
def test_same_inputs_same_decisions(policy: PolicyName, seed: int, router_seed: int) -> None:
    decisions = []
    for _ in range(2):
        life = new_life(Random(seed), policy, router_seed)
        for _ in range(40):
            life.step()
        decisions.append(life.decisions)
    assert decisions[0] == decisions[1]


@FEWER
@given(RANDOMS)
def test_who_stays_at_home_would_do_so_whoever_was_asked(random: Random) -> None:
    life = new_life(random, PolicyName.SECONDS)
    router = life.router
    router._weights = Weights(move_margin_s=random.choice([0.0, 0.004, 0.02, 2.0]))
    for _ in range(60):
        life.step()
        identity, chain = Identity("t", "m", random.choice(["s1", "s2", "s3"])), some_chain(random)
        lines = {"r0": Line(), "r1": Line()}
        cost = Score.FREE._replace(prefill_s=random.choice([0.0, 0.01]))
        lines["r1"].join(Ticket(identity, chain, life.now, score=cost))
        stays = router.at_home(identity, chain, life.now, frozenset(), lines)
        if stays is not None:
            lookup = router.look_up(identity, chain, life.now)
            asked = router.asked(lookup, life.now, lines)
            index, cost = router.choose(identity, chain, lookup, asked)
            tokens = lookup.prompt.tokens
            everybody = Decided(lookup.candidates[index], lookup.matches[index], tokens, cost)
            assert stays == everybody
