"""The joined server: its own pages, and what settings become."""

import json
from typing import Any

from kvproxy.app import App
from kvproxy.core.life_cycle import Health
from kvproxy.settings.model import Settings
from tests.support.proxies import proxied, settled
from tests.support.recording import recording
from tests.support.wire import ask, post, request

BODY = b'{"model":"m","messages":[{"role":"user","content":"hello"}]}'
NOWHERE = "http://127.0.0.1:9"


def settings(**sections: Any) -> Settings:
    replicas = sections.pop("replicas", ["http://a:1", "http://b:2"])
    return Settings.model_validate({"replicas": replicas, **sections})


async def page(url: str, path: str) -> tuple[int, Any]:
    answer = await ask(url, request("GET", path))
    return answer.status, json.loads(answer.body)


async def test_alive_and_ready() -> None:
    async with recording(1) as (replica,), proxied([replica.url, NOWHERE]) as (app, url):
        assert (await ask(url, request("GET", "/healthz"))).body == b"ok\n"
        for path in ("/readyz", "/health"):
            status, body = await page(url, path)
            assert (status, body["ready"], body["draining"]) == (200, True, False)
            assert sorted(body["replicas"].values()) == ["ready", "starting"]
        app.draining = True
        assert (await page(url, "/readyz"))[0] == 503


async def test_without_replicas_alive_but_not_ready() -> None:
    async with proxied([NOWHERE]) as (_, url):
        assert (await ask(url, request("GET", "/healthz"))).status == 200
        assert (await page(url, "/readyz"))[0] == 503
        answer = await ask(url, post(BODY))
        assert (answer.status, answer.header(b"retry-after")) == (503, b"1")


async def test_models_are_those_of_the_ready_replicas_each_once() -> None:
    async with (
        recording(2, models=("m", "n")) as replicas,
        proxied([replica.url for replica in replicas]) as (app, url),
    ):
        status, listing = await page(url, "/v1/models")
        assert (status, listing["object"]) == (200, "list")
        assert [card["id"] for card in listing["data"]] == ["m", "n"]
        for replica in app.router.replicas:
            replica.life.health = Health.EJECTED
        assert (await page(url, "/v1/models"))[1]["data"] == []


async def test_a_request_goes_through_and_is_counted() -> None:
    async with recording(1) as (replica,), proxied([replica.url]) as (app, url):
        answer = await ask(url, post(BODY))
        assert (answer.status, answer.body) == (200, b"{}")
        assert replica.received[0].body == BODY
        await settled(app)
        metrics = await ask(url, request("GET", "/metrics"))
        assert metrics.header(b"content-type") == b"text/plain; version=0.0.4; charset=utf-8"
        assert b'outcome="ok"' in metrics.body


async def test_own_pages_are_not_forwarded() -> None:
    async with recording(1) as (replica,), proxied([replica.url]) as (_, url):
        for path in ("/healthz", "/readyz", "/health", "/metrics", "/v1/models"):
            await ask(url, request("GET", path))
        assert replica.received == []


async def test_keys_of_replicas_replace_the_clients() -> None:
    async with recording(1) as (replica,):
        upstream = {"api_key": "secret"}
        async with proxied([replica.url], upstream=upstream) as (_, url):
            await ask(url, post(BODY, authorization="Bearer client"))
        headers = {name.lower(): value for name, value in replica.received[0].headers}
        assert headers[b"authorization"] == b"Bearer secret"


def test_two_apps_share_nothing() -> None:
    one, other = App(settings()), App(settings())
    assert one.router is not other.router
    assert one.router.replicas[0] is not other.router.replicas[0]
