"""Two models behind one proxy: aliases, splits, policies, and a pool that is drained under load."""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from hashlib import sha256
from typing import Any

from loadgen.emulator import EmulatorSettings, Fleet
from tests.support.proxies import Running, eventually, proxied, settled
from tests.support.recording import recording
from tests.support.wire import ask, post, request

SPLIT = {"serves": [{"model": "org/a", "weight": 3}, {"model": "org/b", "weight": 1}]}
MODELS: dict[str, Any] = {"alias": "org/a", "split": SPLIT, "hidden": "org/c"}


def chat(model: str, *texts: str) -> bytes:
    messages = [{"role": "user", "content": text} for text in texts]
    return json.dumps({"model": model, "max_tokens": 4, "messages": messages}).encode()


@asynccontextmanager
async def two_models(models: Any = MODELS, **sections: Any) -> AsyncIterator[Running]:
    """Two emulated replicas of each model; they refuse what is meant for the other."""
    fleets = [
        Fleet(EmulatorSettings(model=name, time_scale=100.0), 2, "127.0.0.1", 0)
        for name in ("org/a", "org/b")
    ]
    for fleet in fleets:
        await fleet.start()
    urls = [url for fleet in fleets for url in fleet.urls]
    try:
        async with proxied(urls, models=models, **sections) as running:
            yield running
            await settled(running.app)
    finally:
        for fleet in fleets:
            await fleet.stop()


async def told(url: str, body: bytes, **headers: str) -> tuple[str, str, int]:
    """The engine's name of the model, the replica, and the cached tokens of a good answer."""
    got = await ask(url, post(body, **headers))
    assert got.status == 200, got.body
    answer = json.loads(got.body)
    cached = (answer["usage"].get("prompt_tokens_details") or {}).get("cached_tokens", 0)
    return answer["model"], (got.header(b"x-kvproxy-replica") or b"").decode(), cached


async def test_an_alias_and_its_model_share_a_cache() -> None:
    async with two_models() as (_, url):
        texts = ["word " * 2000]
        first = await told(url, chat("alias", *texts))
        again = await told(url, chat("org/a", *texts, "more"))
        assert (first[0], again[0]) == ("org/a", "org/a")
        assert first[1] == again[1]
        assert again[2] > 1000


async def test_conversations_are_split_and_each_keeps_its_model() -> None:
    async with two_models() as (app, url):
        drawn = Counter[str]()
        for n in range(60):
            session = {"x-session-id": f"s{n}"} if n % 2 else {}
            texts = [f"question {n}", "an answer", "another question"]
            found = {(await told(url, chat("split", *texts[:k]), **session))[:2] for k in (1, 3)}
            assert len({model for model, _ in found}) == 1
            drawn[found.pop()[0]] += 1
        assert 30 < drawn["org/a"] < 57
        await settled(app)
        metrics = (await ask(url, request("GET", "/metrics"))).body.decode()
        counted = (
            f'kvproxy_model_requests_total{{model="org/b",outcome="ok"}} {2.0 * drawn["org/b"]}'
        )
        assert counted in metrics


async def test_a_pool_has_its_own_policy() -> None:
    models = MODELS | {"turns": {"serves": "org/b", "policy": "round_robin"}}
    models.pop("split")
    async with two_models(models) as (_, url):
        texts = ["word " * 500]
        headers = {"x-session-id": "s"}
        spread = {(await told(url, chat("turns", *texts), **headers))[1] for _ in range(4)}
        stays = {(await told(url, chat("alias", *texts), **headers))[1] for _ in range(4)}
        assert (len(spread), len(stays)) == (2, 1)


async def test_a_pool_is_drained_without_a_failed_request() -> None:
    admin = {"listen": "127.0.0.1:0"}
    async with two_models(admin=admin) as (app, url):
        assert app.admin_server is not None
        operators = app.admin_server.url
        assert operators is not None
        statuses, models, over = Counter[int](), list[str](), asyncio.Event()

        async def client(n: int) -> None:
            turn = 0
            while not over.is_set():
                turn += 1
                texts = [f"conversation {n}", *["on"] * (2 * turn)]
                got = await ask(url, post(chat("split", *texts), **{"x-session-id": f"s{n}"}))
                statuses[got.status] += 1
                models.append(json.loads(got.body).get("model", ""))

        clients = [asyncio.create_task(client(n)) for n in range(8)]
        await eventually(lambda: {"org/a", "org/b"} <= set(models))
        drained = await ask(operators, request("POST", "/admin/models/org/b/drain", body=b""))
        assert drained.status == 200
        assert [row["health"] for row in json.loads(drained.body)["replicas"]] == ["draining"] * 2
        before = len(models)
        await eventually(lambda: len(models) > before + 60)
        assert set(models[before + 10 :]) == {"org/a"}
        await ask(operators, request("POST", "/admin/models/org%2Fb/undrain", body=b""))
        back = len(models)
        await eventually(lambda: "org/b" in models[back:])
        over.set()
        await asyncio.gather(*clients)
        assert set(statuses) == {200}


async def test_names_are_listed_and_errors_list_nothing_of_others() -> None:
    async with two_models() as (_, url):
        listed = json.loads((await ask(url, request("GET", "/v1/models"))).body)["data"]
        assert {card["id"] for card in listed} == {"org/a", "org/b", "alias", "split"}
        for name in ("nothing", "hidden"):
            got = await ask(url, post(chat(name, "hello")))
            assert got.status == 404
            assert name.encode() in got.body
            assert not any(other in got.body for other in (b"org/", b"alias", b"split"))


async def test_keys_are_for_the_names_that_clients_send() -> None:
    key = {"name": "k", "models": ["alias"], "sha256": sha256(b"secret").hexdigest()}
    async with two_models(access={"keys": [key]}) as (_, url):
        for name, status in (("alias", 200), ("org/a", 404), ("split", 404)):
            got = await ask(url, post(chat(name, "hello"), authorization="Bearer secret"))
            assert got.status == status
        for method in ("GET", "HEAD"):
            listed = await ask(url, request(method, "/v1/%6dodels?x", [("x-api-key", "secret")]))
            assert listed.status == 200
            assert listed.header(b"content-type") == b"application/json"
            if method == "GET":
                assert [card["id"] for card in json.loads(listed.body)["data"]] == ["alias"]


async def test_what_passes_is_renamed_and_adapters_have_names_too() -> None:
    body = b'{"input": "x",  "model": "tuned", "other": 1.0}'
    async with (
        recording(1, models=("base", "org/lora-7")) as (replica,),
        proxied([replica.url], models={"tuned": "org/lora-7"}) as (_, url),
    ):
        assert (await ask(url, post(body, "/v1/embeddings"))).status == 200
        await ask(url, post(b'{"messages":[],"model":"tuned"}'))
    assert replica.received[0].body == body.replace(b"tuned", b"org/lora-7")
    assert replica.received[1].body == b'{"messages":[],"model":"org/lora-7"}'


async def test_other_names_after_a_reload() -> None:
    async with (
        recording(1, models=("m", "n")) as (replica,),
        proxied([replica.url], models={"name": "m"}) as (app, url),
    ):
        await ask(url, post(chat("name", "hello")))
        tree = {"replicas": [replica.url], "models": {"name": "n"}}
        new = app.settings.model_validate(tree).models
        app.reloader._load = lambda: app.settings.model_copy(update={"models": new})
        assert (await app.reloader.reload()).changed == ("models",)
        await ask(url, post(chat("name", "hello")))
    assert [json.loads(each.body)["model"] for each in replica.received] == ["m", "n"]
