from math import inf
from random import Random

import pytest
from hypothesis import event, given
from hypothesis import strategies as st

from kvproxy.core.admission import Admission, AdmissionLimits
from kvproxy.core.allowance import AllowanceLimits
from kvproxy.core.errors import ProxyError
from kvproxy.core.life_cycle import Health
from kvproxy.core.line import Ticket
from kvproxy.core.router import Placement, Router
from kvproxy.core.types import Identity
from tests.support.makers import make_chain, make_replica, make_router

FREE = AllowanceLimits(share=1.0, burst_s=1e9)
LIMITS = AdmissionLimits(FREE, backlog_s=0.1, ageing_s=10.0, wait_max_s=60.0, queue_max=50)


def ticket(name: str, blocks: int, now: float = 0.0) -> Ticket:
    """A turn of `blocks` x 16 tokens of its own, hence of 1.6 ms prefill each and a bit."""
    chain = make_chain(*[f"{name:64}"] * blocks)
    return Ticket(Identity("", "m", name), chain, now)


def enter(admission: Admission, name: str, blocks: int, now: float = 0.0) -> Ticket:
    entered = ticket(name, blocks, now)
    admission.enter(entered, now)
    return entered


def sessions(placed: list[tuple[Ticket, Placement | ProxyError]]) -> list[str]:
    return [ticket.identity.session for ticket, _ in placed]


def serve(router: Router, placed: list[tuple[Ticket, Placement | ProxyError]], now: float) -> None:
    for _, placement in placed:
        assert isinstance(placement, Placement)
        router.finish(placement, None, now)


def test_an_idle_replica_is_given_work_at_once() -> None:
    admission = Admission(make_router(1), LIMITS)
    entered = enter(admission, "a", 10)
    assert admission.length == 1
    ((placed, placement),) = admission.poll(0.0)
    assert placed is entered
    assert placement.replica.load.in_flight == 1
    assert admission.length == 0
    assert admission.poll(0.0) == []


def test_a_busy_replica_waits_for_its_backlog_to_fall() -> None:
    router = make_router(1)
    admission = Admission(router, LIMITS)
    for name in "abc":
        enter(admission, name, 100)
    first = admission.poll(0.0)
    assert len(first) == 1
    assert admission.poll(0.01) == []
    router.first_token(first[0][1], 0.2)
    assert len(admission.poll(0.2)) == 1
    assert admission.length == 1


def test_the_least_miss_goes_first() -> None:
    router = make_router(1)
    admission = Admission(router, LIMITS)
    for name, blocks in (("long", 900), ("short", 100), ("middle", 400)):
        enter(admission, name, blocks)
    order = []
    for now in (0.0, 1.0, 2.0):
        placed = admission.poll(now)
        order += sessions(placed)
        serve(router, placed, now + 0.5)
    assert order == ["short", "middle", "long"]


def test_who_waited_too_long_goes_before_all() -> None:
    router = make_router(1)
    admission = Admission(router, LIMITS)
    enter(admission, "long", 900, 0.0)
    enter(admission, "short", 100, 61.0)
    assert sessions(admission.poll(61.0)) == ["long"]


def test_who_waited_too_long_goes_even_where_there_is_no_room() -> None:
    router = make_router(1)
    admission = Admission(router, LIMITS)
    router.replicas[0].load.reserve("r0", 1000.0, 0.0)
    enter(admission, "old", 100, 1.0)
    assert admission.poll(60.9) == []
    assert sessions(admission.poll(61.0)) == ["old"]


def test_waiting_makes_a_miss_count_less() -> None:
    router = make_router(1)
    admission = Admission(router, LIMITS)
    enter(admission, "long", 300, 0.0)
    enter(admission, "short", 100, 30.0)
    assert sessions(admission.poll(30.0)) == ["long"]


@pytest.mark.parametrize("backlog_s", [1.0, inf])
def test_a_full_queue_sheds(backlog_s: float) -> None:
    admission = Admission(make_router(1), AdmissionLimits(FREE, backlog_s, queue_max=2))
    enter(admission, "a", 1)
    enter(admission, "b", 1)
    with pytest.raises(ProxyError) as raised:
        enter(admission, "c", 1)
    assert (raised.value.code, raised.value.status) == ("overloaded", 429)
    assert 1.0 <= (raised.value.retry_after_s or 0.0) <= 60.0
    assert admission.length == 2


def test_nothing_is_queued_where_nothing_is_eligible() -> None:
    router = make_router(1)
    router.replicas[0].life.health = Health.PAUSED
    admission = Admission(router, LIMITS)
    with pytest.raises(ProxyError, match="ready"):
        enter(admission, "a", 1)
    assert admission.length == 0


def test_who_gives_up_leaves() -> None:
    admission = Admission(make_router(1), LIMITS)
    gone = enter(admission, "a", 100)
    enter(admission, "b", 100)
    admission.leave(gone)
    assert admission.length == 1
    assert sessions(admission.poll(0.0)) == ["b"]


def test_tickets_for_a_lost_replica_look_for_another() -> None:
    router = make_router(2)
    admission = Admission(router, LIMITS)
    tickets = [enter(admission, f"s{index}", 100) for index in range(8)]
    router.replicas[0].life.health = Health.PAUSED
    placed = [placement for _, placement in admission.poll(0.0)]
    assert all(isinstance(placement, Placement) for placement in placed)
    assert {placement.replica.id for placement in placed if isinstance(placement, Placement)} == {
        "r1"
    }
    assert {entered.replica.id for entered in tickets if entered.replica} == {"r1"}
    assert admission.length == 7
    router.replicas[1].life.health = Health.PAUSED
    outcomes = [outcome for _, outcome in admission.poll(1.0)]
    assert [outcome.code for outcome in outcomes if isinstance(outcome, ProxyError)] == (
        ["no_replica"] * 7
    )
    assert admission.length == 0


def at_work(limits: AdmissionLimits) -> tuple[Router, Admission]:
    """A full replica that answers `running`; what `idle` left there may be asked for again, and
    `large` has pushed some of it out."""
    router = make_router([make_replica("r0", hbm_tokens=7000)])
    admission = Admission(router, limits)
    enter(admission, "idle", 200)
    serve(router, admission.poll(0.0), 0.5)
    for name, blocks in (("running", 100), ("large", 200)):
        enter(admission, name, blocks, 1.0)
        assert sessions(admission.poll(1.0)) == [name]
    for hold in list(router.replicas[0].load.waiting.values()):
        router.replicas[0].load.first_token(hold, 2.0)
    return router, admission


def test_large_prefills_draw_on_an_allowance_by_what_they_push_out() -> None:
    limits = AllowanceLimits(share=0.01, burst_s=0.01, small_s=0.05)
    _, admission = at_work(AdmissionLimits(limits, backlog_s=9.0))
    enter(admission, "more", 200, 2.0)
    assert admission.poll(2.0) == []
    enter(admission, "small", 10, 2.1)
    assert sessions(admission.poll(2.1)) == ["small"]
    assert sessions(admission.poll(60.0)) == ["more"]


def test_where_nothing_is_pushed_out_nobody_waits_for_an_allowance() -> None:
    router = make_router([make_replica("r0", hbm_tokens=70_000)])
    limits = AllowanceLimits(share=0.01, burst_s=0.01, small_s=0.0)
    admission = Admission(router, AdmissionLimits(limits, backlog_s=9.0))
    for name in "abcd":
        enter(admission, name, 200)
    assert sessions(admission.poll(0.0)) == list("abcd")


def test_those_ahead_count_as_queue() -> None:
    """The second of two equals goes elsewhere because the first waits for the one replica."""
    admission = Admission(make_router(2), LIMITS)
    replicas = {enter(admission, "a", 100).replica, enter(admission, "b", 100).replica}
    assert len(replicas) == 2


@given(st.randoms(use_true_random=False))
def test_every_ticket_is_placed_once_or_leaves(random: Random) -> None:
    router = make_router(3)
    admission = Admission(router, LIMITS)
    waiting: list[Ticket] = []
    running: list[Placement] = []
    now = 0.0
    for index in range(40):
        now += random.random()
        if random.random() < 0.6:
            waiting.append(enter(admission, f"s{index}", random.randint(0, 200), now))
        if waiting and random.random() < 0.2:
            admission.leave(waiting.pop(random.randrange(len(waiting))))
        if running and random.random() < 0.5:
            router.finish(running.pop(random.randrange(len(running))), None, now)
        for ticket_placed, placement in admission.poll(now):
            waiting.remove(ticket_placed)
            assert isinstance(placement, Placement)
            assert placement.replica is ticket_placed.replica
            running.append(placement)
        assert admission.length == len(waiting)
    while waiting or running:
        now += 100.0
        while running:
            router.finish(running.pop(), None, now)
        for ticket_placed, placement in admission.poll(now):
            waiting.remove(ticket_placed)
            assert isinstance(placement, Placement)
            running.append(placement)
    assert admission.length == 0
    assert [(r.load.in_flight, r.load.waiting_s) for r in router.replicas] == [(0, 0.0)] * 3


def test_nothing_holds_back_who_waited_too_long() -> None:
    """Neither a spent allowance nor priority: the bound on starvation is hard."""
    limits = AllowanceLimits(share=1e-9, burst_s=0.01, small_s=0.0)
    _, admission = at_work(AdmissionLimits(limits, backlog_s=9.0, wait_max_s=60.0))
    old = ticket("old", 200, 2.0)
    old.priority = 5
    admission.enter(old, 2.0)
    enter(admission, "urgent", 100, 30.0)
    assert admission.poll(61.9) == []
    assert sessions(admission.poll(62.0)) == ["old"]


def test_lower_priority_numbers_go_first() -> None:
    router = make_router(1)
    admission = Admission(router, LIMITS)
    for name, blocks, priority in (("short", 10, 0), ("urgent", 900, -1)):
        entered = ticket(name, blocks)
        entered.priority = priority
        admission.enter(entered, 0.0)
    assert sessions(admission.poll(0.0))[0] == "urgent"


def test_tenants_share_what_a_replica_gives() -> None:
    router = make_router(1)
    admission = Admission(router, AdmissionLimits(FREE, backlog_s=0.01, wait_max_s=1e6))
    for tenant, count in (("many", 12), ("few", 3)):
        for index in range(count):
            chain = make_chain(*[f"{tenant}{index:58}"] * 100)
            admission.enter(Ticket(Identity(tenant, "m", f"{index}"), chain, 0.0), 0.0)
    order = []
    for now in range(1, 16):
        placed = admission.poll(float(now))
        order += [entered.identity.tenant for entered, _ in placed]
        serve(router, placed, now + 0.5)
    assert len(order) == 15
    assert order[:6].count("few") == 3


def test_sub_agents_spend_the_share_of_their_parent() -> None:
    router = make_router(1)
    admission = Admission(router, AdmissionLimits(FREE, backlog_s=0.01, wait_max_s=1e6))
    agents = [("swarm", "s", f"agent-{index}") for index in range(8)]
    for tenant, session, agent in [*agents, ("alone", "t", ""), ("alone", "u", "")]:
        chain = make_chain(*[f"{session}{agent:63}"] * 100)
        parent = "main" if agent else ""
        admission.enter(Ticket(Identity(tenant, "m", session, agent, parent), chain, 0.0), 0.0)
    order = []
    for now in range(1, 11):
        placed = admission.poll(float(now))
        order += [entered.identity.tenant for entered, _ in placed]
        serve(router, placed, now + 0.5)
    assert len(order) == 10
    assert order[:4].count("swarm") == 2


def test_who_cannot_be_in_time_is_refused_with_a_reason() -> None:
    router = make_router(1)
    admission = Admission(router, AdmissionLimits(FREE, ttft_slo_s=0.5))
    enter(admission, "a", 100)
    with pytest.raises(ProxyError, match="ttft_slo_s") as raised:
        enter(admission, "b", 900)
    assert raised.value.status == 429
    assert raised.value.retry_after_s is not None
    assert raised.value.retry_after_s >= 1.0
    assert admission.length == 1


def test_what_was_evicted_meanwhile_is_seen() -> None:
    router = make_router([make_replica("r0", hbm_tokens=3000)])
    admission = Admission(router, LIMITS)
    known = enter(admission, "known", 100)
    serve(router, admission.poll(0.0), 0.5)
    enter(admission, "busy", 80, 1.0)
    busy = admission.poll(1.0)
    again = Ticket(known.identity, known.chain, 1.1)
    admission.enter(again, 1.1)
    before = again.match.tokens
    assert before > 1000
    flood = router.place(Identity("", "m", "flood"), make_chain(*[f"{'flood':64}"] * 100), 1.2)
    serve(router, [*busy, (again, flood)], 2.0)
    ((placed, _),) = admission.poll(3.0)
    assert placed is again
    assert again.match.tokens < before


def test_the_queue_can_be_watched() -> None:
    router = make_router(1)
    admission = Admission(router, LIMITS)
    assert admission.oldest_s(9.0) == 0.0
    enter(admission, "a", 100, 1.0)
    enter(admission, "b", 100, 2.0)
    assert admission.waiting(router.replicas[0]) == 2
    assert admission.oldest_s(4.0) == 3.0


def test_other_limits_hold_from_now_on() -> None:
    router = make_router(1)
    admission = Admission(router, LIMITS)
    for name in "abc":
        enter(admission, name, 100)
    assert len(admission.poll(0.0)) == 1
    admission.limit(AdmissionLimits(FREE, backlog_s=1e9, queue_max=1))
    assert admission.length == 2
    with pytest.raises(ProxyError, match="queue_max"):
        enter(admission, "d", 1)
    assert len(admission.poll(0.0)) == 2


def test_who_waits_for_a_replica_that_was_removed_goes_elsewhere() -> None:
    router = make_router(2)
    admission = Admission(router, LIMITS)
    for name in "abcdef":
        enter(admission, name, 1000)
    placed = admission.poll(0.0)
    gone = router.replicas[0]
    router.remove(gone)
    admission.forget(gone)
    admission.poll(0.0)
    waiting = admission.length
    assert waiting == admission.waiting(router.replicas[0])
    serve(router, placed, 1.0)
    assert admission.length == 4


def test_one_that_is_eased_in_is_passed_by_as_it_is_polled() -> None:
    router = make_router([make_replica("r0")])
    [replica] = router.replicas
    admission = Admission(router, LIMITS)
    replica.load.reserve("r0", 0.5 * LIMITS.backlog_s, 0.0)
    assert admission.pass_by(ticket("a", 10), 0.0) is not None
    replica.eased_until, replica.eased_s = 100.0, 100.0
    assert admission.pass_by(ticket("b", 10), 0.0) is None
    enter(admission, "b", 10)
    assert admission.poll(0.0) == []


def test_one_replica_is_asked_where_only_its_work_changed() -> None:
    router = make_router(2)
    admission = Admission(router, LIMITS)
    for name in "abcdef":
        enter(admission, name, 400)
    placed = admission.poll(0.0)
    assert len(placed) == 2
    first, second = (placement.replica for _, placement in placed)
    serve(router, placed, 1.0)
    ((_, next_one),) = admission.poll(1.0, first)
    assert next_one.replica is first
    ((_, next_one),) = admission.poll(1.0, second)
    assert next_one.replica is second


def test_a_replica_that_was_removed_is_given_nothing() -> None:
    router = make_router(1)
    admission = Admission(router, LIMITS)
    old = router.replicas[0]
    enter(admission, "a", 10)
    router.remove(old)
    router.add(make_replica(old.id))
    assert admission.poll(0.0, old) == []


@given(st.randoms(use_true_random=False))
def test_asking_one_replica_misses_nobody(random: Random) -> None:
    router = make_router(3)
    admission = Admission(router, LIMITS)
    running: list[Placement] = []
    now, waited = 0.0, 0

    def take(placed: list[tuple[Ticket, Placement | ProxyError]]) -> None:
        running.extend(placement for _, placement in placed if isinstance(placement, Placement))

    for number in range(40):
        now += random.random() / 10
        # Whom the clock alone let go.
        take(admission.poll(now))
        if running and random.random() < 0.5:
            ended = running.pop(random.randrange(len(running)))
            router.finish(ended, None, now)
            changed = ended.replica
        else:
            entered = enter(admission, f"{number}", random.randrange(1, 300), now)
            assert entered.replica is not None
            changed = entered.replica
        take(admission.poll(now, changed))
        assert admission.poll(now) == []
        waited = max(waited, admission.length)
    event(f"{min(waited, 5)} waited")
