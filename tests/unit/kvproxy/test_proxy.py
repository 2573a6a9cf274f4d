"""The request path on fake ports: in order, out of order, and cut off at every await."""

import asyncio
import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from hashlib import sha256
from typing import Any

import pytest

from kvproxy.core.access import Access, Key
from kvproxy.core.dry_run import Reader
from kvproxy.core.errors import ProxyError
from kvproxy.core.line import Ticket
from kvproxy.core.router import Placement
from kvproxy.core.types import Usage
from tests.support.fake_ports import FakeExchange, World, stream
from tests.support.proxies import eventually

USAGE = {
    "prompt_tokens": 2000,
    "completion_tokens": 2,
    "prompt_tokens_details": {"cached_tokens": 0},
}
PARTS = stream("a", "b", usage=USAGE)
BODY = json.dumps(
    {"model": "m", "messages": [{"role": "user", "content": "x" * 8000}], "stream": True}
).encode()
BROKE = ProxyError("upstream_broke", "broke off")


async def test_a_request_from_start_to_end() -> None:
    world = World(PARTS)
    exchange = world.exchange(BODY, header={"content-type": "application/json", "session-id": "s"})
    await world.proxy.handle(exchange)
    assert exchange.status == 200
    assert exchange.sent == PARTS
    assert exchange.ended
    assert world.upstream.bodies == [BODY]
    (record,) = world.records
    assert (record.outcome, record.status, record.attempts) == ("ok", 200, 1)
    assert record.usage == Usage(2000, 2, 0)
    assert record.identity is not None
    assert (record.identity.session, record.identity.evidence) == ("s", "header:session-id")
    assert record.turn is not None
    assert record.turn.stream
    assert record.ttft_s is not None
    assert 0 < record.ttft_s < record.total_s
    assert record.waited_s > 0
    world.assert_at_rest()


async def test_what_is_learned_serves_the_next_turn() -> None:
    world = World(PARTS)
    await world.proxy.handle(world.exchange(BODY))
    home = world.upstream.tried[0]
    await world.proxy.handle(world.exchange(BODY))
    assert world.upstream.tried == [home, home]
    placement = world.records[1].placement
    assert placement is not None
    assert placement.placing.prompt_tokens == 2000
    assert placement.predicted_cached_tokens == 1984
    assert placement.replica.rate.s_per_tok != 1e-4


async def steps_of(world: World) -> int:
    await world.proxy.handle(world.exchange(BODY))
    return world.steps.passed


async def test_cancelled_at_every_await() -> None:
    for unreachable in (frozenset[str](), frozenset({"r0", "r1"})):
        total = await steps_of(World(PARTS, unreachable=unreachable))
        for cancel_at in range(1, total + 1):
            world = World(PARTS, cancel_at=cancel_at, unreachable=unreachable)
            with pytest.raises(asyncio.CancelledError):
                await world.proxy.handle(world.exchange(BODY))
            world.assert_at_rest()
            (record,) = world.records
            assert record.outcome == "client_gone", world.steps.names
            # Nothing goes on after the client has left.
            assert world.steps.passed == cancel_at


async def test_cancelled_requests_that_are_no_prompt() -> None:
    for cancel_at in (1, 2, 3):
        world = World([b"{}"], cancel_at=cancel_at)
        with pytest.raises(asyncio.CancelledError):
            await world.proxy.handle(world.exchange(b"", method="GET", path="/v1/other"))
        world.assert_at_rest()
        assert [record.outcome for record in world.records] == ["client_gone"]


async def test_an_unreachable_replica_is_passed_over() -> None:
    for unreachable in ({"r0"}, {"r1"}, {"r2"}, {"r0", "r1"}, {"r1", "r2"}):
        world = World(PARTS, unreachable=frozenset(unreachable))
        exchange = world.exchange(BODY)
        await world.proxy.handle(exchange)
        assert exchange.sent == PARTS
        assert len(set(world.upstream.tried)) == len(world.upstream.tried)
        (record,) = world.records
        assert record.attempts == len(world.upstream.tried)
        assert set(world.upstream.bodies) == {BODY}
        world.assert_at_rest()


@pytest.mark.parametrize("attempts", [1, 2, 5])
async def test_every_replica_is_tried_once_before_giving_up(attempts: int) -> None:
    names = frozenset(f"r{index}" for index in range(attempts))
    world = World(PARTS, replicas=attempts, unreachable=names)
    exchange = world.exchange(BODY)
    with pytest.raises(ProxyError) as raised:
        await world.proxy.handle(exchange)
    assert raised.value.code == "upstream_unreachable"
    assert len(world.upstream.tried) == len(set(world.upstream.tried)) == attempts
    assert not exchange.started
    (record,) = world.records
    assert (record.outcome, record.status, record.attempts) == (
        "upstream_unreachable",
        502,
        attempts,
    )
    world.assert_at_rest()


@pytest.mark.parametrize("parts", [[BROKE], [PARTS[0], BROKE], [*PARTS, BROKE]])
async def test_nothing_is_tried_again_after_the_start(parts: list[bytes | ProxyError]) -> None:
    world = World(parts)
    exchange = world.exchange(BODY)
    with pytest.raises(ProxyError) as raised:
        await world.proxy.handle(exchange)
    assert raised.value is BROKE
    assert len(world.upstream.tried) == 1
    assert exchange.sent == parts[:-1]
    assert not exchange.ended
    (record,) = world.records
    assert (record.outcome, record.status, record.usage) == ("upstream_broke", 200, None)
    world.assert_at_rest()


async def test_errors_of_the_replica_are_relayed_and_teach_nothing() -> None:
    body = json.dumps({"error": {"message": "x"}, "usage": USAGE}).encode()
    world = World([body], status=500)
    exchange = world.exchange(BODY)
    await world.proxy.handle(exchange)
    assert (exchange.status, exchange.sent) == (500, [body])
    (record,) = world.records
    assert (record.status, record.usage) == (500, None)
    world.assert_at_rest()


@pytest.mark.parametrize(
    ("body", "code"),
    [(b"{", "invalid_json"), (b"[]", "invalid_body"), (b'{"model":"\xff"}', "invalid_json")],
)
async def test_bodies_that_no_engine_takes_go_nowhere(body: bytes, code: str) -> None:
    world = World(PARTS)
    with pytest.raises(ProxyError) as raised:
        await world.proxy.handle(world.exchange(body))
    assert raised.value.code == code
    assert world.upstream.tried == []
    (record,) = world.records
    assert (record.outcome, record.status, record.attempts) == (code, 400, 0)


async def test_json_must_be_called_so() -> None:
    world = World(PARTS)
    with pytest.raises(ProxyError, match="application/json"):
        await world.proxy.handle(world.exchange(BODY, header={"content-type": "text/plain"}))
    assert [record.outcome for record in world.records] == ["unsupported_media_type"]


async def test_compressed_bodies_pass_without_being_read() -> None:
    world = World(PARTS)
    header = {"content-type": "application/json", "content-encoding": "gzip"}
    await world.proxy.handle(world.exchange(b"\x1f\x8b", header=header))
    assert world.upstream.bodies == [b"\x1f\x8b"]
    assert world.records[0].turn is None


async def test_unknown_shapes_pass_untouched() -> None:
    body = b'{"model":"m","messages":"hello"}'
    world = World(PARTS)
    await world.proxy.handle(world.exchange(body))
    assert world.upstream.bodies == [body]
    world.assert_at_rest()


async def test_bodies_are_forwarded_in_the_spelling_first_seen() -> None:
    def body(properties: str) -> bytes:
        return f'{{"model":"m","tools":[{{"p":{properties}}}],"messages":[]}}'.encode()

    world = World(PARTS)
    await world.proxy.handle(world.exchange(body('{"a":1,"b":2}')))
    await world.proxy.handle(world.exchange(body('{"b":2,"a":1}')))
    assert world.upstream.bodies == [body('{"a":1,"b":2}')] * 2


async def test_a_mistake_of_ours_is_settled_and_observed_too() -> None:
    world = World([RuntimeError("bug")])  # type: ignore[list-item]
    exchange = world.exchange(BODY)
    with pytest.raises(TypeError):
        await world.proxy.handle(exchange)
    assert len(world.records) == 1
    world.assert_at_rest()


SSE = [(b"content-type", b"text/event-stream; charset=utf-8")]
TICK_S = 0.001


def held_back(parts: Sequence[bytes | ProxyError], **given: Any) -> tuple[World, FakeExchange]:
    """A world whose gate opens after three comments."""
    world = World(parts, keepalive_s=TICK_S, headers=given.pop("headers", SSE), **given)
    exchange = world.exchange(BODY, enough=3)
    world.gate.full = exchange.waited
    return world, exchange


@pytest.mark.parametrize("unreachable", [frozenset[str](), frozenset({"r0", "r1"})])
async def test_who_waits_is_told_and_then_gets_the_engines_bytes(
    unreachable: frozenset[str],
) -> None:
    world, exchange = held_back(PARTS, unreachable=unreachable)
    await world.proxy.handle(exchange)
    assert exchange.comments >= 3
    assert (exchange.status, exchange.sent, exchange.ended) == (200, PARTS, True)
    assert world.records[0].usage == Usage(2000, 2, 0)
    assert world.records[0].attempts == len(world.upstream.tried)
    world.assert_at_rest()


async def test_who_waits_may_leave_at_every_await() -> None:
    unreachable = frozenset({"r0", "r1"})
    world, exchange = held_back(PARTS, unreachable=unreachable)
    await world.proxy.handle(exchange)
    for cancel_at in range(1, world.steps.passed + 1):
        world, exchange = held_back(PARTS, unreachable=unreachable, cancel_at=cancel_at)
        with pytest.raises(asyncio.CancelledError):
            await world.proxy.handle(exchange)
        world.assert_at_rest()
        assert world.steps.passed == cancel_at
        assert [record.outcome for record in world.records] == ["client_gone"]
        assert timers() == 0


async def test_who_leaves_between_two_comments_hears_no_more() -> None:
    world, exchange = held_back(PARTS)
    world.gate.full = asyncio.Event()
    running = asyncio.create_task(world.proxy.handle(exchange))
    await exchange.waited.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert timers() == 0
    assert world.upstream.tried == []
    world.assert_at_rest()


async def test_a_refused_admission_is_told_to_who_waited() -> None:
    world, exchange = held_back(PARTS)
    world.gate.refusal = ProxyError("no_replica", "none")
    with pytest.raises(ProxyError) as raised:
        await world.proxy.handle(exchange)
    assert raised.value.code == "no_replica"
    assert timers() == 0


@pytest.mark.parametrize(
    ("status", "headers"), [(400, []), (503, []), (200, [(b"content-type", b"text/html")])]
)
async def test_an_answer_that_is_no_stream_becomes_an_error(status: int, headers: Any) -> None:
    said = b'{"error": {"message": "too long"}}'
    world, exchange = held_back([said[:9], said[9:]], status=status, headers=headers)
    with pytest.raises(ProxyError) as raised:
        await world.proxy.handle(exchange)
    assert raised.value.code == "upstream_refused"
    assert raised.value.body == b'{"error":{"message":"too long"}}'
    assert (exchange.sent, exchange.ended) == ([], False)
    assert (world.records[0].status, world.records[0].outcome) == (status, "upstream_refused")
    world.assert_at_rest()


@pytest.mark.parametrize("streams", [True, False])
async def test_only_streams_are_kept_alive(streams: bool) -> None:
    world = World(PARTS, headers=SSE, keepalive_s=TICK_S)
    body = BODY if streams else BODY.replace(b"true", b"false")
    exchange = world.exchange(body, enough=1)
    world.gate.full = asyncio.Event()
    running = asyncio.create_task(world.proxy.handle(exchange))
    await eventually(lambda: "admit" in world.steps.names)
    await eventually(lambda: exchange.held == streams)
    assert timers() == streams
    world.gate.full.set()
    await running
    assert exchange.held is streams
    world.assert_at_rest()


def timers() -> int:
    """Comments that are still to come."""
    loop: Any = asyncio.get_running_loop()
    return sum(not timer.cancelled() for timer in loop._scheduled)


@pytest.mark.parametrize(("own", "expected"), [(None, -3), (0, 0), (5, 5)])
async def test_a_keys_priority_counts_instead_of_the_header(
    own: int | None, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(PARTS)
    seen: list[int] = []
    admit = world.gate.admit

    async def watched(ticket: Ticket) -> Placement:
        seen.append(ticket.priority)
        return await admit(ticket)

    monkeypatch.setattr(world.gate, "admit", watched)
    key = Key("a", sha256(b"secret").hexdigest(), "a", priority=own)
    proxy = replace(world.proxy, access=Access([key]))
    header = {"content-type": "application/json", "x-vllm-priority": "-3", "x-api-key": "secret"}
    await proxy.handle(world.exchange(BODY, header=header))
    assert seen == [expected]


class Ill:
    """A reader to whom answers mean trouble."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reader, name)

    def answered(self, *_: object) -> None:
        raise KeyError("nobody foresaw it")


async def test_what_fails_behind_an_answer_leaves_nothing_held() -> None:
    world = World(PARTS)
    proxy = replace(world.proxy, reader=Ill(world.proxy.reader))
    with pytest.raises(KeyError):
        await proxy.handle(world.exchange(BODY))
    world.assert_at_rest()
    assert [record.outcome for record in world.records] == ["internal"]


@pytest.mark.parametrize(
    ("parts", "status", "cancel_at", "used"),
    [
        (PARTS, 200, 0, 2002),
        # A stream whose client did not ask for usage, and one that its client left.
        (stream("a", "b"), 200, 0, 2004),
        (PARTS, 200, 6, 2004),
        (PARTS, 200, 3, 0),
        ([b'{"error": {}}'], 400, 0, 0),
    ],
)
async def test_what_a_key_used(
    parts: Sequence[bytes], status: int, cancel_at: int, used: int
) -> None:
    world = World(parts, cancel_at=cancel_at)
    world.upstream.status = status
    key = Key("a", sha256(b"secret").hexdigest(), "a", tokens_per_min=10_000)
    access = Access([key])
    proxy = replace(world.proxy, access=access)
    header = {"content-type": "application/json", "x-api-key": "secret"}
    with suppress(asyncio.CancelledError):
        await proxy.handle(world.exchange(BODY, header=header))
    left = access._by_name["a"]
    assert 10_000 - left.tokens._left == pytest.approx(used, abs=1)
