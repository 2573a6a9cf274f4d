"""Replicas that come, drain and go under a running proxy."""

import asyncio
from collections.abc import Callable

import pytest

from kvproxy.app import App
from kvproxy.core.errors import ProxyError
from kvproxy.core.life_cycle import Health
from kvproxy.replica_table import FROM_SETTINGS
from kvproxy.settings.replica import ReplicaSettings
from tests.support.proxies import eventually, held, proxied, settled
from tests.support.recording import Mark, RecordingReplica, answer, recording
from tests.support.wire import ask, post

CHAT = b'{"model":"m","stream":true,"messages":[{"role":"user","content":"hello"}]}'
EVENTS = [(b"content-type", b"text/event-stream; charset=utf-8")]
PROBE = {"interval_s": 0.02}


def at(replica: RecordingReplica, **given: object) -> ReplicaSettings:
    return ReplicaSettings.model_validate({"url": replica.url, **given})


def is_health(app: App, name: str, health: Health) -> Callable[[], bool]:
    return lambda: any(r.id == name and r.health is health for r in app.router.replicas)


def slow(replica: RecordingReplica) -> asyncio.Event:
    """It streams the first half at once, and the rest when told."""
    go = asyncio.Event()
    head, first, *rest = answer(b"data: 1\n\ndata: 2\n\n", headers=EVENTS, chunk=9, chunked=True)
    replica.script = lambda received: [head, first, go, *rest]
    return go


async def test_one_that_joins_is_asked_at_once_and_used() -> None:
    async with recording(2) as (one, two), proxied([one.url], probe=PROBE) as (app, url):
        await one.stop()
        app.table.add(at(two, id="two", api_key="secret"))
        await eventually(is_health(app, "two", Health.READY))
        got = await ask(url, post(CHAT))
        assert (got.status, got.header(b"x-kvproxy-replica")) == (200, b"two")
        named = {name.lower(): value for name, value in two.received[0].headers}
        assert named[b"authorization"] == b"Bearer secret"
        await settled(app)


async def test_one_that_is_removed_finishes_what_it_has() -> None:
    async with recording(2) as (one, two), proxied([one.url], probe=PROBE) as (app, url):
        go = slow(one)
        [replica] = app.router.replicas
        stream = asyncio.create_task(ask(url, post(CHAT)))
        await eventually(lambda: replica.load.in_flight == 1 and bool(one.received))
        app.table.add(at(two))
        app.table.remove(replica.id)
        await eventually(lambda: app.router.replicas[-1].health is Health.READY)
        assert (await ask(url, post(CHAT))).header(b"x-kvproxy-replica") == two.url[7:].encode()
        assert app.table.listing()[0]["leaving"] is True
        go.set()
        got = await stream
        assert got.complete
        assert got.body.endswith(b"data: 2\n\n")
        await eventually(lambda: len(app.router.replicas) == 1)
        assert replica.health is Health.GONE
        assert not held(app)
        await settled(app)


async def test_after_the_grace_what_is_left_ends_with_an_error() -> None:
    async with recording(1) as [one], proxied([one.url], probe=PROBE) as (app, url):
        slow(one)
        stream = asyncio.create_task(ask(url, post(CHAT)))
        await eventually(lambda: bool(one.received))
        app.table.remove(app.router.replicas[0].id, 0.1)
        got = await stream
        assert b'"error"' in got.body
        assert b"was removed" in got.body
        assert app.router.replicas == []
        # Nobody is there to say which models there are.
        assert (await ask(url, post(CHAT))).status == 503
        await settled(app)


async def test_drained_and_back() -> None:
    async with recording(1) as [one], proxied([one.url], probe=PROBE) as (app, url):
        name = app.router.replicas[0].id
        app.table.drain(name)
        app.table.drain(name)
        assert (await ask(url, post(CHAT))).status == 503
        app.table.undrain(name)
        await eventually(is_health(app, name, Health.READY))
        assert (await ask(url, post(CHAT))).status == 200


async def test_a_removal_is_taken_back() -> None:
    async with recording(1) as [one], proxied([one.url], probe=PROBE) as (app, url):
        go, name = slow(one), app.router.replicas[0].id
        stream = asyncio.create_task(ask(url, post(CHAT)))
        await eventually(lambda: bool(one.received))
        app.table.remove(name)
        app.table.add(at(one))
        go.set()
        assert (await stream).complete
        await eventually(is_health(app, name, Health.READY))
        await asyncio.sleep(0.15)
        assert [replica.id for replica in app.router.replicas] == [name]


async def test_a_pinned_session_stays() -> None:
    async with recording(3) as replicas, proxied([r.url for r in replicas]) as (app, url):
        for replica in app.router.replicas:
            app.table.pin(replica.id, "s")
            got = await ask(url, post(CHAT, x_session_id="s"))
            assert got.header(b"x-kvproxy-replica") == replica.id.encode()
        app.table.unpin("s")
        with pytest.raises(ProxyError, match="not pinned"):
            app.table.unpin("s")


async def test_what_is_not_there_or_twice_is_said() -> None:
    async with recording(2) as (one, two), proxied([one.url]) as (app, _):
        for verb in (app.table.drain, app.table.undrain, app.table.remove, app.table.get):
            with pytest.raises(ProxyError, match="No replica has the id `x`"):
                verb("x")
        with pytest.raises(ProxyError, match="already"):
            app.table.add(at(one, id="other"))
        with pytest.raises(ProxyError, match="remove it first"):
            app.table.add(at(two, id=app.router.replicas[0].id))


async def test_settings_move_only_the_replicas_that_settings_named() -> None:
    async with recording(4) as (one, two, three, four), proxied([one.url, two.url]) as (app, _):
        app.table.add(at(three), origin="discovery")
        done = app.table.settle([at(two, weight=2.0), at(four)], None)
        assert len(done) == 3
        await eventually(lambda: len(app.router.replicas) == 3)
        named = {replica.id: replica.weight for replica in app.router.replicas}
        assert named == {at(two).id: 2.0, at(three).id: 1.0, at(four).id: 1.0}
        with pytest.raises(ProxyError, match="already"):
            app.table.settle([at(three, id="mine")], None)
        assert len(app.router.replicas) == 3
        assert app.table.settle([at(two, weight=2.0), at(four)], None) == []
        origins = [row["origin"] for row in app.table.listing()]
        assert origins == [FROM_SETTINGS, "discovery", FROM_SETTINGS]


async def test_who_is_wanted_by_several_stays_until_nobody_wants_it() -> None:
    async with recording(2) as (one, two), proxied([one.url]) as (app, _):
        settle, listing = app.table.settle, app.table.listing
        first = app.router.replicas[0]
        assert settle([at(one, weight=9.0), at(two, id="b")], None, "dns") == ["replica b joins"]
        assert settle([at(two, id="b")], None, "file") == []
        assert (first.weight, listing()[1]["origin"]) == (1.0, "dns, file"), "as settings say"
        assert settle([], None, "dns") == []
        assert [row["origin"] for row in listing()] == [FROM_SETTINGS, "file"]
        assert settle([], None, "file") == ["replica b leaves"]
        await eventually(lambda: app.router.replicas == [first])


async def test_one_that_leaves_settings_and_is_found_meanwhile_stays() -> None:
    async with recording(2) as (one, two), proxied([one.url, two.url]) as (app, url):
        go, name = slow(one), at(one).id
        app.table.drain(at(two).id)
        stream = asyncio.create_task(ask(url, post(CHAT)))
        await eventually(lambda: bool(one.received))
        app.table.settle([at(two)], None)
        assert app.table.settle([at(one)], None, "file") == [f"replica {name} stays"]
        go.set()
        assert (await stream).complete
        await settled(app)
        await asyncio.sleep(0.05)
        assert name in [replica.id for replica in app.router.replicas]
        assert app.table.settle([], None, "file") == [f"replica {name} leaves"]


async def test_what_an_operator_adds_again_is_still_what_others_want() -> None:
    async with recording(1) as [one], proxied([one.url]) as (app, _):
        app.table.settle([at(one)], None, "dns")
        app.table.add(at(one))
        assert app.table.settle([], None, "dns") == []
        assert [row["origin"] for row in app.table.listing()] == [f"admin, {FROM_SETTINGS}"]


async def test_another_engine_under_an_old_name_takes_over_at_once() -> None:
    async with (
        recording(2) as (one, two),
        proxied([{"url": one.url, "id": "r"}], probe=PROBE) as (app, url),
    ):
        go = slow(one)
        stream = asyncio.create_task(ask(url, post(CHAT)))
        await eventually(lambda: bool(one.received))
        app.table.pin("r", "s")
        app.table.settle([at(two, id="r")], None)
        assert app.router.pins.of("r") == ["s"], "who was tied to a name is tied to it still"
        await eventually(is_health(app, "r", Health.READY))
        assert (await ask(url, post(CHAT))).status == 200
        assert len(two.received) == 1
        go.set()
        assert (await stream).complete
        await settled(app)


async def test_a_role_or_another_port_for_its_kv_changes_in_place() -> None:
    moving = {"connector": "nixl"}
    async with (
        recording(2) as (one, two),
        proxied([one.url, two.url], probe=PROBE, disagg=moving) as (app, _),
    ):
        before, other = app.router.replicas
        assert before.peer is not None
        before.peer = before.peer._replace(engine_id="asked")
        wanted = at(one, role="prefill", weight=2.0)
        app.table.settle([wanted, at(two)], None)
        assert (before.role, before.weight, before.peer.engine_id) == ("prefill", 2.0, "asked")
        app.table.settle([at(one, kv_port=7), at(two)], None)
        assert (before.role, before.peer.port) == ("both", 7)
        assert app.router.replicas == [before, other]
        await settled(app)


async def test_who_takes_over_a_name_is_listened_to_where_settings_say() -> None:
    def named(replica: RecordingReplica, port: int) -> dict[str, str]:
        endpoint = f"tcp://127.0.0.1:{port}"
        return {"url": replica.url, "id": "r", "events_endpoint": endpoint}

    async with (
        recording(2) as (one, two),
        proxied([named(one, 1)], probe=PROBE, events={"discover_s": 0.02}) as (app, _),
    ):
        app.table.settle([ReplicaSettings.model_validate(named(two, 2))], None)
        sources = app.sources.feed
        await eventually(lambda: [s.endpoint for s in sources.sources] == ["tcp://127.0.0.1:2"])
        # LMCache's servers are known to be a replica's by their host.
        assert app.sources._hosts == {"r": "127.0.0.1"}
        await settled(app)


async def test_a_waiting_request_finds_another_one() -> None:
    async with recording(2) as (one, two), proxied([one.url], probe=PROBE) as (app, url):
        one.script = lambda received: [Mark.HOLD]
        first = asyncio.create_task(ask(url, post(CHAT)))
        await eventually(lambda: bool(one.received))
        load = app.router.replicas[0].load
        (hold,) = load.waiting.values()
        load.revise(hold, 1e9)
        waiting = asyncio.create_task(ask(url, post(CHAT.replace(b"hello", b"bye"))))
        await eventually(lambda: app.admission.length == 1)
        app.table.add(at(two))
        await eventually(lambda: app.router.replicas[-1].health is Health.READY)
        app.table.remove(app.router.replicas[0].id, 0.0)
        assert (await waiting).header(b"x-kvproxy-replica") == two.url[7:].encode()
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        await settled(app)
