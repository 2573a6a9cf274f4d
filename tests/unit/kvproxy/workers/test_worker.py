"""A worker and a placement process in one loop, joined by a real socket."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from kvproxy.core.errors import ProxyError
from kvproxy.core.life_cycle import Health
from kvproxy.settings.model import Settings
from kvproxy.settings.replica import ReplicaSettings
from kvproxy.workers import worker as module
from kvproxy.workers.placement import PlacementApp
from kvproxy.workers.worker import WorkerApp
from tests.support.proxies import eventually, pins
from tests.support.recording import recording
from tests.support.wire import ask, post, request

BODY = b'{"model":"m","messages":[{"role":"user","content":"hello"}]}'


class Joined(NamedTuple):
    placement: PlacementApp
    worker: WorkerApp
    url: str
    folder: Path
    settings: Settings


@asynccontextmanager
async def joined(folder: Path, urls: list[str], **sections: Any) -> AsyncIterator[Joined]:
    server = {"port": 0, "workers": 2, "grace_s": 1.0}
    tree = {"replicas": urls, "server": server, "log": {"access": True}, **sections}
    settings = Settings.model_validate(tree)
    placement, worker = PlacementApp(settings, folder), WorkerApp(settings, folder)
    await placement.start()
    url = await worker.start()
    try:
        yield Joined(placement, worker, url, folder, settings)
    finally:
        await worker.stop()
        await placement.stop()


def at_rest(app: PlacementApp) -> bool:
    loads = [replica.load for replica in app.router.replicas]
    return not any(load.in_flight or load.waiting for load in loads) and not any(
        pins(replica.hbm) for replica in app.router.replicas
    )


async def test_requests_and_pages_are_those_of_one_process(tmp_path: Path) -> None:
    async with recording(1) as [replica], joined(tmp_path, [replica.url]) as world:
        answer = await ask(world.url, post(BODY, x_request_id="mine", x_kvproxy_decision="1"))
        assert answer.status == 200
        assert json.loads(answer.header(b"x-kvproxy-decision") or b"")["policy"] == "seconds"
        await eventually(lambda: at_rest(world.placement))
        page = await ask(world.url, request("GET", "/metrics"))
        assert b'kvproxy_requests_total{outcome="ok",replica="' in page.body
        assert b"kvproxy_workers 1.0" in page.body
        told = await ask(world.url, request("GET", "/admin/explain?request_id=mine"))
        assert json.loads(told.body)["request_id"] == "mine"
        missing = await ask(world.url, request("GET", "/admin/explain?request_id=other"))
        assert missing.status == 404
        live = json.loads((await ask(world.url, request("GET", "/admin/live"))).body)
        assert live["totals"]["requests"] == 1
        await ask(world.url, post(BODY[:-1] + b',"stream":true}', x_request_id="seen"))
        live = json.loads((await ask(world.url, request("GET", "/admin/live"))).body)
        assert [seen["request_id"] for seen in live["decisions"]] == ["seen"]
        assert live["ttft"]["count"] == 1
        ready = json.loads((await ask(world.url, request("GET", "/readyz"))).body)
        assert (ready["ready"], ready["draining"]) == (True, False)
        assert (await ask(world.url, request("GET", "/v1/models"))).status == 200
        assert (await ask(world.url, request("GET", "/healthz"))).body == b"ok\n"


async def test_without_a_placement_process_it_serves_and_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR)
    logging.getLogger("kvproxy").propagate = True
    async with recording(1) as [replica], joined(tmp_path, [replica.url]) as world:
        await ask(world.url, post(BODY))
        before = (await ask(world.url, request("GET", "/metrics"))).body
        await world.placement.hop.close()
        await eventually(lambda: not world.worker.link.up)
        assert (await ask(world.url, post(BODY))).status == 200
        assert "places by itself" in caplog.text
        assert (await ask(world.url, request("GET", "/metrics"))).status == 503
        ready = await ask(world.url, request("GET", "/readyz"))
        assert (ready.status, json.loads(ready.body)["ready"]) == (200, True)
        another = PlacementApp(world.settings, world.folder)
        await another.start()
        await asyncio.wait_for(world.worker.link.became_up.wait(), 10)
        after = (await ask(world.url, request("GET", "/metrics"))).body
        assert b'outcome="ok"' in before
        assert b'kvproxy_hop_alone_total{reason="lost"} 1.0' in after
        counted = [line for line in after.splitlines() if b"requests_total{" in line]
        assert counted[0].endswith(b" 2.0")
        # Not stop(), which would wait for the worker to leave.
        await another.close()


async def test_an_ejected_replica_is_abandoned_in_workers_too(tmp_path: Path) -> None:
    async with recording(2) as replicas, joined(tmp_path, [r.url for r in replicas]) as world:
        replica = world.placement.router.replicas[0]
        replica.life.health = Health.EJECTED
        world.placement._replica_changed(replica)
        mine = world.worker.router.replicas[0]
        await eventually(lambda: mine.health is Health.EJECTED)


async def test_conversations_are_pinned_through_a_worker_by_a_key_that_is_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.INFO, "kvproxy.admin")
    monkeypatch.setattr(logging.getLogger("kvproxy"), "propagate", True)
    key = {"name": "ops", "sha256": sha256(b"right").hexdigest(), "admin": True}
    mine = {"authorization": "Bearer right"}
    pairs = [("authorization", "Bearer right")]
    async with (
        recording(2) as replicas,
        joined(tmp_path, [r.url for r in replicas], access={"keys": [key]}) as world,
    ):
        await ask(world.url, post(BODY, **mine, x_session_id="s"))
        live = json.loads((await ask(world.url, request("GET", "/admin/live", pairs))).body)
        [row] = live["sessions"]
        other = next(r["id"] for r in live["replicas"] if r["id"] != row["replica"])
        body = json.dumps({"conversation": row["session"]}).encode()
        forged = [*pairs, ("operator", "forged")]
        pin = request("POST", f"/admin/replicas/{other}/pin", forged, body)
        assert (await ask(world.url, pin)).status == 200
        assert "by ops" in caplog.messages[-1]
        for _ in range(2):
            answer = await ask(world.url, post(BODY, **mine, x_session_id="s"))
            assert answer.header(b"x-kvproxy-replica") == other.encode()
        live = json.loads((await ask(world.url, request("GET", "/admin/live", pairs))).body)
        assert (live["sessions"][0]["replica"], live["sessions"][0]["pinned"]) == (other, other)


async def test_rates_of_keys_hold_over_workers(tmp_path: Path) -> None:
    key = {"name": "k", "sha256": sha256(b"secret").hexdigest(), "requests_per_min": 1}
    async with (
        recording(1) as [replica],
        joined(tmp_path, [replica.url], access={"keys": [key]}) as world,
    ):
        codes = [
            (await ask(world.url, post(BODY, authorization="Bearer secret"))).status
            for _ in range(2)
        ]
        assert codes == [200, 429]
        assert (await ask(world.url, post(BODY))).status == 401


async def test_a_worker_does_not_wait_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_PATIENCE_S", 0.05)
    settings = Settings.model_validate({"replicas": ["http://a:1"], "server": {"port": 0}})
    worker = WorkerApp(settings, tmp_path)
    url = await worker.start()
    assert (await ask(url, request("GET", "/healthz"))).status == 200
    await worker.stop()


async def test_whom_rates_limit_counts_once_it_is_taken_over(tmp_path: Path) -> None:
    def key(rate: int | None) -> dict[str, Any]:
        return {"name": "k", "sha256": sha256(b"k").hexdigest(), "requests_per_min": rate}

    async with recording(1) as [replica]:
        tree = {"replicas": [replica.url], "access": {"keys": [key(5)]}}
        limited = Settings.model_validate(tree)
        tree["access"] = {"keys": [key(None)]}
        worker = WorkerApp(limited, tmp_path, lambda: Settings.model_validate(tree))

        def refuse(*_: object) -> list[str]:
            raise ProxyError("conflict", "no")

        applies, worker.reloader._apply = worker.reloader._apply, refuse
        assert (await worker.reloader.reload()).refused
        assert worker._limited == {"k"}
        worker.reloader._apply = applies
        assert not (await worker.reloader.reload()).refused
        assert worker._limited == set()


async def test_shuffled_schemas_are_spelled_alike_by_all_workers(tmp_path: Path) -> None:
    def body(names: list[str]) -> bytes:
        properties = {name: {"type": "string"} for name in names}
        parameters = {"type": "object", "properties": properties}
        tool = {"type": "function", "function": {"name": "f", "parameters": parameters}}
        messages = [{"role": "user", "content": "hello"}]
        return json.dumps({"model": "m", "messages": messages, "tools": [tool]}).encode()

    async with recording(1) as [replica], joined(tmp_path, [replica.url]) as world:
        other = WorkerApp(world.settings, world.folder)
        url = await other.start()
        await ask(world.url, post(body(["a", "b"])))
        await ask(url, post(body(["b", "a"])))
        got = [received.body for received in replica.received]
        assert got == [body(["a", "b"])] * 2
        await other.stop()


async def test_a_replicas_key_that_was_taken_away_is_sent_no_more(tmp_path: Path) -> None:
    async with recording(1) as [replica]:
        keyed: Any = {"url": replica.url, "id": "r", "api_key": "secret"}
        async with joined(tmp_path, [keyed]) as world:
            await eventually(lambda: world.worker.api_keys == {"r": "secret"})
            plain = ReplicaSettings(url=replica.url, id="r")
            world.placement.table.settle([plain], None)
            await eventually(lambda: world.worker.api_keys == {})
