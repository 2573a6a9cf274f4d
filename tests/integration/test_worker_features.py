"""What one process does for a request, several do too: the same features with two workers."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import orjson
import trustme

from kvproxy.settings.model import Settings
from kvproxy.workers.placement import PlacementApp
from kvproxy.workers.worker import WorkerApp
from loadgen.emulator import EmulatorSettings, emulated
from tests.integration.test_continuation import BODY, CUT, REST, play
from tests.integration.test_shared_store import Conversation
from tests.integration.test_tls import HOST, chat, trusting
from tests.support.certificates import write
from tests.support.proxies import Running, eventually, pins, proxied
from tests.support.recording import recording
from tests.support.valkey import valkey
from tests.support.wire import ask, post, request

HELLO = b'{"model":"m","messages":[{"role":"user","content":"hello"}]}'


class Several(NamedTuple):
    placement: PlacementApp
    workers: list[WorkerApp]
    urls: list[str]


@asynccontextmanager
async def several(folder: Path, urls: list[str], **sections: Any) -> AsyncIterator[Several]:
    server = {"port": 0, "workers": 2, "grace_s": 1.0} | sections.pop("server", {})
    tree = {"replicas": urls, "server": server, "log": {"access": False}, **sections}
    settings = Settings.model_validate(tree)
    placement = PlacementApp(settings, folder, lambda: settings)
    workers = [WorkerApp(settings, folder, lambda: settings) for _ in range(2)]
    await placement.start()
    async with AsyncExitStack() as stack:
        stack.push_async_callback(placement.stop)
        listening = []
        for worker in workers:
            listening.append(await worker.start())
            stack.push_async_callback(worker.stop)
        yield Several(placement, workers, listening)
        await eventually(lambda: at_rest(placement))


def at_rest(app: PlacementApp) -> bool:
    return not any(r.load.in_flight or pins(r.hbm) for r in app.router.replicas)


async def test_a_stream_that_breaks_off_goes_on(tmp_path: Path) -> None:
    on = {"continue_streams": True}
    async with recording(2) as replicas:
        play(replicas, CUT, REST)
        async with several(tmp_path, [r.url for r in replicas], upstream=on) as world:
            got = await ask(world.urls[0], post(BODY))
            page = await ask(world.urls[1], request("GET", "/metrics"))
    assert got.complete
    assert b": continued on another replica\n\n" in got.body
    assert b'kvproxy_continued_streams_total{outcome="ok"} 1.0' in page.body


async def test_conversations_by_id_stay_whichever_worker_they_come_to(tmp_path: Path) -> None:
    """By a policy that sends every turn to the next replica, unless something holds it back."""
    engine = EmulatorSettings(model="m", time_scale=50.0, responses_stored=100)
    homes: list[set[str]] = []
    async with (
        # So that no conversation begins where the one before it did.
        emulated(engine, n=3) as urls,
        several(tmp_path, urls, policy={"name": "round_robin"}) as world,
        aiohttp.ClientSession() as client,
    ):
        for number in range(6):
            previous, home = None, set[str]()
            for turn in range(4):
                text = f"{number} {turn} " + "some words of a task " * 100
                asked = {"model": "m", "input": text, "max_output_tokens": 4}
                asked |= {"previous_response_id": previous} if previous else {}
                url = f"{world.urls[turn % 2]}/v1/responses"
                async with client.post(url, json=asked) as answer:
                    assert answer.status == 200, await answer.text()
                    previous = (await answer.json())["id"]
                    home.add(answer.headers["x-kvproxy-replica"])
            homes.append(home)
        assert len(world.placement.router.affinity) == 6
    assert [len(home) for home in homes] == [1] * 6
    assert len(set.union(*homes)) == 3, "there was a choice to make"


async def test_clients_connect_with_tls_and_every_process_reads_it_again(tmp_path: Path) -> None:
    one, two = trustme.CA(), trustme.CA()
    cert, key = write(one.issue_cert(HOST), tmp_path, "server")
    async with (
        recording() as [replica],
        several(tmp_path, [replica.url], server={"tls_cert": cert, "tls_key": key}) as world,
    ):
        for url in world.urls:
            assert (await chat(url, trusting(one)))[0] == 200
        write(two.issue_cert(HOST), tmp_path, "server")
        for worker, url in zip(world.workers, world.urls, strict=True):
            assert not (await worker.reloader.reload()).refused
            assert (await chat(url, trusting(two)))[0] == 200


async def test_replicas_that_are_found_serve_through_every_worker(tmp_path: Path) -> None:
    file = tmp_path / "replicas.json"
    async with recording(2) as replicas:
        file.write_text(json.dumps([replicas[0].url]))
        asked = {"file": str(file), "interval_s": 0.05}
        async with several(tmp_path, [], discovery=asked) as world:
            for url in world.urls:
                assert (await ask(url, post(HELLO))).status == 200
            file.write_text(json.dumps([replicas[1].url]))

            async def moved() -> bool:
                known = [[r.url for r in w.router.replicas if r.up] for w in world.workers]
                return known == [[replicas[1].url]] * 2

            await eventually(moved)
            for url in world.urls:
                assert (await ask(url, post(HELLO))).status == 200
            (late,) = world.placement.router.replicas
            assert late.eased_s > 0, "who joins is eased in"
            assert len(replicas[1].received) >= 2


async def test_hints_and_rules_are_those_of_one_process(tmp_path: Path) -> None:
    mark = {"type": "ephemeral", "ttl": "1h"}
    text = [{"type": "text", "text": "long " * 500, "cache_control": mark}]
    marked = {"model": "m", "max_tokens": 5, "messages": [{"role": "user", "content": text}]}
    moved = {**json.loads(HELLO), "kv_transfer_params": {"remote_host": "x"}}
    closed = {"engine_commands": False}
    async with (
        recording() as [replica],
        several(tmp_path, [replica.url], access=closed) as world,
    ):
        sent = post(orjson.dumps(marked), "/v1/messages", x_session_id="s")
        assert (await ask(world.urls[0], sent)).status == 200
        ((_, home),) = world.placement.router.affinity.latest()
        assert home.retention_s == 3600.0
        assert (await ask(world.urls[1], post(orjson.dumps(moved)))).status == 403


async def test_models_are_listed_for_those_who_may_use_them(tmp_path: Path) -> None:
    keys = [
        {"name": name, "sha256": sha256(name.encode()).hexdigest(), "models": models}
        for name, models in (("all", []), ("one", ["n"]))
    ]
    async with (
        recording(models=("m", "n")) as [replica],
        several(tmp_path, [replica.url], access={"keys": keys}) as world,
    ):
        for key, status, models in (("all", 200, ["m", "n"]), ("one", 200, ["n"]), ("no", 401, [])):
            got = await ask(world.urls[0], request("GET", "/v1/models", [("x-api-key", key)]))
            assert got.status == status
            assert [card["id"] for card in json.loads(got.body).get("data", [])] == models


async def test_the_live_view_is_of_all_workers(tmp_path: Path) -> None:
    async with recording() as [replica], several(tmp_path, [replica.url]) as world:
        await ask(world.urls[0], request("GET", "/admin/live"))
        for name, url in zip("ab", world.urls, strict=True):
            assert (await ask(url, post(HELLO, x_request_id=name))).status == 200
        state = json.loads((await ask(world.urls[1], request("GET", "/admin/live"))).body)
        assert [row["request_id"] for row in state["decisions"]] == ["b", "a"]
        assert state["totals"]["requests"] == 2
        assert (await ask(world.urls[0], request("GET", "/admin/"))).status == 200
        typed = await ask(world.urls[0], request("GET", "/admin"))
        assert (typed.status, typed.header(b"location")) == (308, b"admin/")


async def test_other_proxies_know_what_workers_placed(tmp_path: Path) -> None:
    engine = EmulatorSettings(model="m", hbm_tokens=500_000, time_scale=10)
    async with valkey() as server, emulated(engine, n=4) as urls:
        shared = {"url": server.url, "deadline_s": 2.0, "share_spellings": False}
        async with (
            several(tmp_path, urls, store=shared, events={"enabled": "off"}) as world,
            proxied(urls, store=shared, events={"enabled": "off"}) as other,
            aiohttp.ClientSession() as client,
        ):
            entrances = [Running(world.placement, url) for url in world.urls] + [other]
            talks = [Conversation(f"talk {number}") for number in range(4)]
            for turn in range(6):
                for talk in talks:
                    await talk.turn(client, entrances[turn % 3])
    assert [len(set(talk.replicas)) for talk in talks] == [1] * 4
    assert all(talk.missed < 200 for talk in talks)


async def test_what_cannot_be_placed_is_refused_where_a_store_is_asked_first(
    tmp_path: Path,
) -> None:
    async with valkey() as server, recording() as [replica]:
        shared = {"url": server.url, "deadline_s": 2.0, "share_spellings": False}
        async with several(tmp_path, [replica.url], store=shared) as world:
            [known] = world.placement.router.replicas
            known.models = ("other",)
            await eventually(lambda: all(w.link.up for w in world.workers))
            sent = post(HELLO, x_session_id="s")
            got = await asyncio.wait_for(ask(world.urls[0], sent), 5)
    assert got.status == 404
    assert orjson.loads(got.body)["error"]["param"] == "model"
