"""What placing one turn costs while 10,000 conversations live and 200 requests wait."""

from collections.abc import Callable

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from kvproxy.core.admission import Admission, AdmissionLimits
from kvproxy.core.allowance import AllowanceLimits
from kvproxy.core.line import Ticket
from kvproxy.core.router import Router
from kvproxy.core.types import Identity
from tests.support.makers import make_chain, make_replica, make_router

SESSIONS, WAITING, NOW = 10_000, 200, 100.0
REPLICAS = pytest.mark.parametrize("replicas", [16, 128])


def busy_router(replicas: int) -> Router:
    """Everything has lived somewhere, all caches are full, every replica answers something."""
    fleet = [make_replica(f"r{n}", hbm_tokens=SESSIONS * 16 // replicas) for n in range(replicas)]
    router = make_router(fleet, max_sessions=2 * SESSIONS)
    for index in range(SESSIONS):
        chain = make_chain(f"{index:256}")
        placement = router.place(Identity("", "m", f"s{index}"), chain, NOW * index / SESSIONS)
        if index % 100:
            router.finish(placement, None, NOW * index / SESSIONS)
        else:
            router.first_token(placement, NOW * index / SESSIONS)
    return router


def queue(router: Router) -> Admission:
    """Nobody else may go: a large prefill was placed on each busy replica and overdrew it."""
    limits = AllowanceLimits(share=1e-9, burst_s=1e-9, small_s=0.0)
    admission = Admission(router, AdmissionLimits(limits))
    for replica in router.replicas:
        hold = replica.load.reserve(replica.id, 0.0, NOW)
        replica.load.first_token(hold, NOW)
        replica.held_tokens = replica.hbm_tokens
    for index in range(WAITING):
        chain = make_chain(f"waiting {index:640}")
        admission.enter(Ticket(Identity("", "m", f"w{index}"), chain, NOW), NOW)
    admission.poll(NOW)
    return admission


def decision(replicas: int, session: int) -> Callable[[], object]:
    router = busy_router(replicas)
    admission = queue(router)
    identity, chain = Identity("", "m", f"s{session}"), make_chain(f"{session:256}", "x" * 640)
    lookup = router.look_up(identity, chain, NOW)

    def decide() -> object:
        asked = router.asked(lookup, NOW, admission._waiting)
        return router.choose(identity, chain, lookup, asked)

    return decide


@REPLICAS
@pytest.mark.parametrize("session", [77, SESSIONS + 1], ids=["known", "new"])
def test_score_and_pick(benchmark: BenchmarkFixture, replicas: int, session: int) -> None:
    benchmark(decision(replicas, session))


@REPLICAS
@pytest.mark.parametrize("session", [77, SESSIONS + 1], ids=["known", "new"])
def test_a_whole_decision(benchmark: BenchmarkFixture, replicas: int, session: int) -> None:
    """With looking up who holds what, and where a conversation lives."""
    router = busy_router(replicas)
    identity, chain = Identity("", "m", f"s{session}"), make_chain(f"{session:256}", "x" * 640)
    benchmark(lambda: router.decide(identity, chain, NOW))


@REPLICAS
def test_poll_with_a_full_queue(benchmark: BenchmarkFixture, replicas: int) -> None:
    admission = queue(busy_router(replicas))
    benchmark(lambda: admission.poll(NOW))
    assert admission.length > 0
