"""Legs over scripted ports: whatever happens, both claims are settled once."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

import orjson
import pytest
from msgspec.structs import replace

from kvproxy.core.admission import Admission, AdmissionLimits, Ticket
from kvproxy.core.allowance import AllowanceLimits
from kvproxy.core.disagg.choice import Mode, Terms
from kvproxy.core.disagg.connectors import Connector, Peer
from kvproxy.core.disagg.plan import Disagg
from kvproxy.core.disagg.transfer_rate import TransferRate
from kvproxy.core.errors import ProxyError
from kvproxy.core.replica import Role
from kvproxy.core.router import Placement, Router
from kvproxy.core.score import Match, Score
from kvproxy.core.types import Identity
from kvproxy.proxy import Exchange, Headers
from kvproxy.two_legs import TwoLegs
from tests.support.fake_ports import FakeExchange, Steps
from tests.support.makers import make_chain, make_replica, make_router

BODY = b'{"model":"m","messages":[],"max_tokens":9,"stream":true}'
GRANT = {"do_remote_prefill": True, "remote_block_ids": [[1]]}
SAID = orjson.dumps({"kv_transfer_params": GRANT, "usage": {"prompt_tokens": 1}})
Say = tuple[int, bytes] | ProxyError


@dataclass
class Said:
    status: int
    body: bytes
    steps: Steps
    headers: Headers = ()

    async def relay(self, feed: Callable[[bytes], None], exchange: Exchange) -> None:
        await self.steps.at("relay")
        feed(self.body)


@dataclass
class Wire:
    """An upstream: `says` what each replica answers, in turn; `asked` is who got which body."""

    says: dict[str, list[Say]]
    steps: Steps = field(default_factory=Steps)
    asked: list[tuple[str, str, dict[str, object]]] = field(default_factory=list)
    open_now: int = 0

    @asynccontextmanager
    async def open(
        self, placement: Placement, exchange: Exchange, body: bytes
    ) -> AsyncIterator[Said]:
        name = placement.replica.id
        self.asked.append((name, exchange.request_id, orjson.loads(body)))
        self.open_now += 1
        try:
            await self.steps.at("open")
            say = self.says[name].pop(0)
            if isinstance(say, ProxyError):
                raise say
            yield Said(*say, self.steps)
        finally:
            self.open_now -= 1

    def abandon(self, replica: object) -> None: ...


@dataclass
class Scene:
    router: Router
    wire: Wire
    legs: TwoLegs
    placement: Placement

    async def answer(self) -> bytes:
        got = bytearray()
        exchange = FakeExchange(Steps(), BODY)
        async with self.legs.open(self.placement, exchange, BODY) as answer:
            await answer.relay(got.extend, exchange)
        self.router.finish(self.placement, None, 1.0)
        return bytes(got)

    def settled(self) -> bool:
        return all(not r.load.in_flight and not r.load.waiting_s for r in self.router.replicas)


def scene(connector: Connector, says: dict[str, list[Say]], cancel_at: int = 0) -> Scene:
    router = make_router([make_replica("p"), make_replica("d")])
    router.replicas[0].role, router.replicas[1].role = Role.PREFILL, Role.DECODE
    router.replicas[0].peer, router.replicas[1].peer = Peer("p", 1, "engine"), Peer("d", 2)
    terms = Terms(connector, Mode.ALWAYS, min_tokens=1)
    router.disagg = Disagg(terms, TransferRate(1e6))
    identity, chain = Identity("", "m", "s"), make_chain("x" * 6400)
    admission = Admission(router, AdmissionLimits(AllowanceLimits()))
    admission.enter(Ticket(identity, chain, 0.0), 0.0)
    ((_, placement),) = admission.poll(0.0)
    assert isinstance(placement, Placement)
    assert placement.prefill is not None
    wire = Wire(says, Steps(cancel_at))
    legs = TwoLegs(wire, router, router.disagg, lambda: 1.0, lambda: None)
    return Scene(router, wire, legs, placement)


async def test_one_after_the_other() -> None:
    it = scene(Connector.NIXL, {"p": [(200, SAID)], "d": [(200, b"hello")]})
    assert await it.answer() == b"hello"
    (first, _, asked), (second, _, told) = it.wire.asked
    assert (first, second) == ("p", "d")
    assert (asked["stream"], asked["max_tokens"]) == (False, 1)
    assert told == orjson.loads(BODY) | {"kv_transfer_params": GRANT}
    assert it.legs.outcomes == {"remote": 1}
    assert it.settled()


async def test_both_at_once() -> None:
    it = scene(Connector.MOONCAKE, {"p": [(200, b"{}")], "d": [(200, b"hello")]})
    assert await it.answer() == b"hello"
    assert {name for name, _, _ in it.wire.asked} == {"p", "d"}
    assert it.legs.outcomes == {"remote": 1}
    assert it.settled()


@pytest.mark.parametrize("connector", [Connector.NIXL, Connector.MOONCAKE])
async def test_what_travels_is_timed_from_when_it_was_computed(
    connector: Connector, monkeypatch: pytest.MonkeyPatch
) -> None:
    it, now = scene(connector, {"p": [(200, SAID)], "d": [(200, b"hello")]}), [0.0]
    placing, rate = it.placement.placing, it.legs.disagg.rate

    async def at(step: str) -> None:
        await asyncio.sleep(0)
        now[0] += 5.0 if step == "relay" else 0.0

    monkeypatch.setattr(it.wire.steps, "at", at)
    it.legs.clock = lambda: now[0]
    async with it.legs.open(it.placement, FakeExchange(Steps(), BODY), BODY):
        now[0] += 0.5
        it.router.first_token(it.placement, now[0])
    assert placing.remote is not None
    assert rate.tok_s == pytest.approx(placing.remote.tokens / 0.5)
    it.router.finish(it.placement, None, now[0])
    assert it.settled()


async def test_the_request_id_speaks() -> None:
    it = scene(Connector.P2P_NCCL, {"p": [(200, b"{}")], "d": [(200, b"hello")]})
    assert await it.answer() == b"hello"
    names = {name for _, name, _ in it.wire.asked}
    assert len(names) == 1
    assert names.pop().startswith("___prefill_addr_p:1___decode_addr_d:2_")


LOST = ProxyError("upstream_lost", "gone")
UNREACHABLE = ProxyError("upstream_unreachable", "not there")


@pytest.mark.parametrize("connector", [Connector.NIXL, Connector.MOONCAKE])
@pytest.mark.parametrize(
    ("say", "outcome"),
    [
        ((500, b"{}"), "prefill_refused"),
        ((200, b"no JSON"), "prefill_refused"),
        ((200, b"[]"), "prefill_refused"),
        (LOST, "prefill_upstream_lost"),
        (UNREACHABLE, "prefill_upstream_unreachable"),
    ],
)
async def test_whoever_answers_computes_it_where_the_other_does_not(
    connector: Connector, say: Say, outcome: str
) -> None:
    it = scene(connector, {"p": [say], "d": [(200, b"hello"), (200, b"hello")]})
    assert await it.answer() == b"hello"
    assert it.wire.asked[-1][2] == orjson.loads(BODY)
    assert it.legs.outcomes == {outcome: 1}
    assert it.settled()


async def test_what_is_computed_waits_for_the_next_attempt() -> None:
    it = scene(Connector.NIXL, {"p": [(200, SAID)], "d": [UNREACHABLE, (200, b"hello")]})
    exchange = FakeExchange(Steps(), BODY)
    with pytest.raises(ProxyError, match="not there"):
        async with it.legs.open(it.placement, exchange, BODY):
            pass
    again = replace(it.placement, prefill=None)
    async with it.legs.open(again, exchange, BODY) as answer:
        assert answer.status == 200
    assert it.wire.asked[-1][2]["kv_transfer_params"] == GRANT
    assert it.legs.outcomes == {"remote": 1, "reused": 1}


async def test_another_prompt_under_the_same_request_id_is_its_own() -> None:
    """Clients choose them, and some send the same with every request."""
    it = scene(Connector.NIXL, {"p": [(200, SAID)], "d": [UNREACHABLE, (200, b"hello")]})
    exchange = FakeExchange(Steps(), BODY)
    with pytest.raises(ProxyError, match="not there"):
        async with it.legs.open(it.placement, exchange, BODY):
            pass
    placing = replace(it.placement.placing, chain=make_chain("y" * 6400), remote=None)
    other = replace(it.placement, placing=placing, prefill=None)
    async with it.legs.open(other, exchange, BODY):
        pass
    assert it.wire.asked[-1][2] == orjson.loads(BODY)
    assert it.legs.outcomes == {"remote": 1}


@pytest.mark.parametrize("error", [LOST, UNREACHABLE])
async def test_the_answering_replicas_failure_is_its_own(error: ProxyError) -> None:
    it = scene(Connector.MOONCAKE, {"p": [(200, b"{}")], "d": [error]})
    with pytest.raises(ProxyError) as raised:
        await it.answer()
    assert raised.value is error
    it.router.abort(it.placement, 1.0)
    assert it.settled()
    assert it.wire.open_now == 0


@pytest.mark.parametrize("connector", [Connector.NIXL, Connector.MOONCAKE])
async def test_a_client_may_leave_at_any_await(connector: Connector) -> None:
    for cancel_at in range(1, 10):
        says: dict[str, list[Say]] = {"p": [(200, SAID)], "d": [(200, b"hello")] * 2}
        it = scene(connector, says)
        task = asyncio.create_task(it.answer())
        for _ in range(cancel_at):
            await asyncio.sleep(0)
        task.cancel()
        (result,) = await asyncio.gather(task, return_exceptions=True)
        if isinstance(result, BaseException):
            it.router.abort(it.placement, 1.0)
        assert it.settled(), f"cancelled after {cancel_at} turns"
        assert it.wire.open_now == 0


async def test_a_client_that_leaves_at_the_end_of_the_first_leg_is_asked_no_second_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The end of an answer is not cancelled: who leaves then may have all of it."""

    async def to_its_end(said: Said, feed: Callable[[bytes], None], exchange: Exchange) -> None:
        feed(said.body)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(0)

    monkeypatch.setattr(Said, "relay", to_its_end)
    it = scene(Connector.NIXL, {"p": [(200, SAID)], "d": [(200, b"hello")]})
    task = asyncio.create_task(it.answer())
    with pytest.raises(asyncio.CancelledError):
        await task
    assert [name for name, _, _ in it.wire.asked] == ["p"]
    it.router.abort(it.placement, 1.0)
    assert it.settled()
    assert it.wire.open_now == 0


async def test_a_plain_placement_passes_through() -> None:
    it = scene(Connector.NIXL, {"d": [(200, b"hello")]})
    prefill = it.placement.prefill
    assert prefill is not None
    it.router.abort(prefill, 0.0)
    placing = replace(it.placement.placing, remote=None, match=Match.NONE, score=Score.FREE)
    it.placement = replace(it.placement, placing=placing, prefill=None)
    assert await it.answer() == b"hello"
    assert [name for name, _, _ in it.wire.asked] == ["d"]
    assert not it.legs.outcomes


async def test_a_turn_given_up_before_its_first_leg_holds_nothing() -> None:
    it = scene(Connector.NIXL, {})
    assert not it.settled()
    it.router.abort(it.placement, 1.0)
    assert it.settled()
    assert it.placement.prefill is not None
    assert it.placement.prefill.hold.released
