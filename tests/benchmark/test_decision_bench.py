"""What placing one turn costs while 10,000 conversations live and 200 requests wait."""

from collections.abc import Callable

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from kvproxy.core.admission import Admission, AdmissionLimits, Ticket
from kvproxy.core.allowance import AllowanceLimits
from kvproxy.core.router import Lookup, Router
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


def looked_up(router: Router, index: int) -> tuple[Identity, Lookup]:
    identity = Identity("", "m", f"s{index}")
    return identity, router.look_up(identity, make_chain(f"{index:256}", "x" * 640), NOW)


def queue(router: Router) -> Admission:
    limits = AdmissionLimits(AllowanceLimits(share=1e-9, burst_s=1e-9, small_s=0.0))
    admission = Admission(router, limits)
    for index in range(WAITING):
        chain = make_chain(f"waiting {index:640}")
        admission.enter(Ticket(Identity("", "m", f"w{index}"), chain, NOW), NOW)
    return admission


@REPLICAS
def test_score_and_pick(benchmark: BenchmarkFixture, replicas: int) -> None:
    router = busy_router(replicas)
    queue(router)
    identity, lookup = looked_up(router, 77)
    chain = make_chain(f"{77:256}", "x" * 640)

    def decide() -> int:
        return router.choose(identity, chain, lookup, router.score(lookup, NOW))

    benchmark(decide)


@REPLICAS
def test_poll_with_a_full_queue(benchmark: BenchmarkFixture, replicas: int) -> None:
    admission = queue(busy_router(replicas))
    poll: Callable[[float], object] = admission.poll
    benchmark(poll, NOW)
