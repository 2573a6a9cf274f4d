"""Whatever happens, nobody is lost, counted twice, or kept waiting past the bound."""

from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from kvproxy.core.admission import Admission, AdmissionLimits
from kvproxy.core.allowance import AllowanceLimits
from kvproxy.core.errors import ProxyError
from kvproxy.core.life_cycle import Health
from kvproxy.core.line import Ticket
from kvproxy.core.router import Placement
from kvproxy.core.types import Identity
from tests.support.makers import make_chain, make_replica, make_router

WAIT_MAX_S, TICK_S, QUEUE_MAX = 20.0, 0.5, 12
LIMITS = AdmissionLimits(
    AllowanceLimits(share=0.05, burst_s=0.05, small_s=0.0),
    backlog_s=0.2,
    ageing_s=5.0,
    wait_max_s=WAIT_MAX_S,
    queue_max=QUEUE_MAX,
)
ACTIONS = st.lists(
    st.one_of(
        st.tuples(st.just("enter"), st.integers(0, 7), st.integers(1, 150), st.integers(-1, 1)),
        st.tuples(st.sampled_from(["token", "finish", "abort", "leave"]), st.integers(0, 99)),
        st.tuples(st.just("tick"), st.integers(1, 8)),
        st.tuples(st.sampled_from(["down", "up"]), st.integers(0, 1)),
    ),
    max_size=80,
)


@dataclass
class Machine:
    now: float = 0.0
    waiting: list[Ticket] = field(default_factory=list)
    running: list[Placement] = field(default_factory=list)
    refused: str = ""

    def __post_init__(self) -> None:
        self.router = make_router([make_replica(f"r{n}", hbm_tokens=3000) for n in range(2)])
        self.admission = Admission(self.router, LIMITS)

    def poll(self) -> None:
        for ticket, outcome in self.admission.poll(self.now):
            self.waiting.remove(ticket)
            if isinstance(outcome, Placement):
                self.running.append(outcome)

    def enter(self, session: int, blocks: int, priority: int) -> None:
        identity = Identity(f"tenant{session % 2}", "m", str(session))
        chain = make_chain(*[f"{session:64}"] * blocks)
        ticket = Ticket(identity, chain, self.now, priority=priority)
        try:
            self.admission.enter(ticket, self.now)
        except ProxyError as error:
            self.refused = error.code
            full = len(self.waiting) >= QUEUE_MAX
        else:
            self.waiting.append(ticket)
            return
        assert self.refused == ("overloaded" if full else "no_replica")

    def settle(self, action: str, which: int) -> None:
        if not self.running:
            return
        placement = self.running[which % len(self.running)]
        if action == "token":
            self.router.first_token(placement, self.now)
            return
        self.running.remove(placement)
        if action == "abort":
            self.router.abort(placement, self.now)
        else:
            self.router.finish(placement, None, self.now)

    def act(self, action: tuple[object, ...]) -> None:
        match action:
            case ("enter", int(session), int(blocks), int(priority)):
                self.enter(session, blocks, priority)
            case ("leave", int(which)) if self.waiting:
                self.admission.leave(self.waiting.pop(which % len(self.waiting)))
            case ("token" | "finish" | "abort" as verb, int(which)):
                self.settle(str(verb), which)
            case ("tick", int(ticks)):
                self.now += ticks * TICK_S
            case ("down" | "up" as verb, int(which)):
                health = Health.READY if verb == "up" else Health.PAUSED
                self.router.replicas[which].life.health = health

    def check(self) -> None:
        assert self.admission.length == len(self.waiting) <= QUEUE_MAX
        for replica in self.router.replicas:
            mine = [p for p in self.running if p.replica is replica]
            assert replica.load.in_flight == len(mine)
            if replica.health is Health.READY:
                late = [t for t in self.waiting if self.now - t.entered_at >= WAIT_MAX_S]
                assert not [t for t in late if t.replica is replica], "kept past the bound"


@settings(max_examples=150, deadline=None)
@given(ACTIONS)
def test_bounds_hold_and_holds_are_released(actions: list[tuple[object, ...]]) -> None:
    machine = Machine()
    for action in actions:
        machine.act(action)
        machine.poll()
        machine.check()
    for replica in machine.router.replicas:
        replica.life.health = Health.READY
    # Everyone gets a turn, however the queue looks.
    for _ in range(10_000):
        if not machine.waiting and not machine.running:
            break
        machine.now += 1.0
        while machine.running:
            machine.settle("finish", 0)
        machine.poll()
        machine.check()
    assert not machine.waiting
    assert all(r.load.in_flight == 0 and r.load.waiting_s == 0 for r in machine.router.replicas)
    assert machine.router.held.tokens == 0


@dataclass
class Hasty(Machine):
    """Passes by the queue where nobody waits, as the gate does."""

    def enter(self, session: int, blocks: int, priority: int) -> None:
        identity = Identity(f"tenant{session % 2}", "m", str(session))
        chain = make_chain(*[f"{session:64}"] * blocks)
        ticket = Ticket(identity, chain, self.now, priority=priority)
        try:
            placement = self.admission.pass_by(ticket, self.now)
            if placement is None:
                self.admission.enter(ticket, self.now)
                self.waiting.append(ticket)
            else:
                self.running.append(placement)
        except ProxyError as error:
            self.refused = error.code


@settings(max_examples=150, deadline=None)
@given(ACTIONS)
def test_passing_by_the_queue_decides_as_queueing_does(actions: list[tuple[object, ...]]) -> None:
    queueing, hasty = Machine(), Hasty()
    for action in actions:
        for machine in (queueing, hasty):
            machine.act(action)
            machine.poll()
            machine.check()
        assert [told(placement) for placement in hasty.running] == [
            told(placement) for placement in queueing.running
        ]
        assert hasty.refused == queueing.refused
        assert len(hasty.waiting) == len(queueing.waiting)


def told(placement: Placement) -> tuple[object, ...]:
    placing = placement.placing
    return placing.identity, placing.replica.id, placing.match, placing.score, placing.waited_s
