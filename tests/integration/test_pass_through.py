"""Everything that is not understood goes to a replica as it is; a few pages are the proxy's own."""

import orjson
import pytest

from tests.support.proxies import eventually, proxied, settled
from tests.support.recording import answer, recording
from tests.support.wire import ask, connected, post, read_answer, request

CHAT = b'{"model":"a","messages":[{"role":"user","content":"hello"}]}'


@pytest.mark.parametrize(
    ("method", "target", "body"),
    [
        ("GET", "/v1/files?limit=2&after=x%2Fy&empty=&q=a+b%20c", None),
        ("GET", "/v1/files/%E6%97%A5%2e%2E/content", None),
        ("GET", "/a//b/../c/./d", None),
        ("GET", "/v1/models/tiny", None),
        ("HEAD", "/v1/files", None),
        ("OPTIONS", "/v1/chat/completions", None),
        ("DELETE", "/v1/files/1", None),
        ("DELETE", "/v1/files", b'{"ids":[1]}'),
        ("PUT", "/v1/thing", b"\x00\xff raw"),
        ("PATCH", "/v1/thing", b"[]"),
        ("POST", "/v1/responses", b'{ "input" : "x", "b":1, "a":2 }'),
        ("POST", "/v1/chat/completions/", b"not json"),
        ("POST", "/reset_prefix_cache", b""),
        ("POST", "/health", b""),
        ("GET", "/v1/chat/completions", None),
    ],
)
async def test_other_requests_reach_a_replica_unchanged(
    method: str, target: str, body: bytes | None
) -> None:
    async with recording() as [replica], proxied([replica.url]) as (app, url):
        replica.script = lambda received: answer(b"theirs", headers=[(b"X-Own", b"1")])
        got = await ask(url, request(method, target, (), body))
        await settled(app)
    assert (got.status, got.header(b"x-own"), got.complete) == (200, b"1", True)
    assert got.body == (b"" if method == "HEAD" else b"theirs")
    [received] = replica.received
    assert (received.method, received.target) == (method, target)
    assert received.body == (body or b"")


async def test_a_multipart_body_is_not_touched() -> None:
    head = b'--b\r\nContent-Disposition: form-data; name="f"; filename="\xc3\xa9"\r\n\r\n'
    body = head + b"\x00\r\n--b--\r\n"
    raw = post(body, "/v1/files", content_type="multipart/form-data; boundary=b")
    async with recording() as [replica], proxied([replica.url]) as (_, url):
        assert (await ask(url, raw)).status == 200
    assert replica.received[0].body == body
    assert (b"content-type", b"multipart/form-data; boundary=b") in replica.received[0].headers


@pytest.mark.parametrize(
    ("target", "arrives_as"),
    [
        ("http://elsewhere.test:1/v1/files?x=1", "/v1/files?x=1"),
        ("https://elsewhere.test", "/"),
        ("http://elsewhere.test?x=1", "/?x=1"),
    ],
)
async def test_a_whole_url_as_target_never_leads_elsewhere(target: str, arrives_as: str) -> None:
    async with recording() as [replica], proxied([replica.url]) as (_, url):
        assert (await ask(url, request("GET", target))).status == 200
    assert replica.received[0].target == arrives_as


async def test_requests_that_are_no_prompts_spread_over_replicas() -> None:
    async with recording(3) as replicas, proxied([r.url for r in replicas]) as (_, url):
        for _ in range(6):
            await ask(url, request("GET", "/version"))
    assert [len(replica.received) for replica in replicas] == [2, 2, 2]


async def test_requests_that_are_no_prompts_reach_their_model() -> None:
    async with (
        recording(1, models=["a"]) as [first],
        recording(1, models=["b"]) as [second],
        proxied([first.url, second.url]) as (_, url),
    ):
        for path in ("/v1/embeddings", "/v1/messages/count_tokens", "/tokenize"):
            for model in ("b", "a", "b", "b"):
                body = b'{"input":"x","messages":[],"model":"%b"}' % model.encode()
                assert (await ask(url, post(body, path))).status == 200
        # What names no model that is known goes to somebody, who will know what to say.
        assert (await ask(url, post(b'{"model":"c"}', "/v1/embeddings"))).status == 200
    assert [b'"a"' in received.body for received in first.received[:3]] == [True] * 3
    assert [b'"b"' in received.body for received in second.received[:9]] == [True] * 9
    assert len(first.received) + len(second.received) == 13


async def test_models_of_all_replicas_are_merged() -> None:
    async with recording(2, models=["a", "b"]) as both, recording(1, models=["b", "c"]) as [third]:
        urls = [replica.url for replica in [*both, third]]
        async with proxied(urls) as (_, url):
            listing = orjson.loads((await ask(url, request("GET", "/v1/models"))).body)
            assert listing["object"] == "list"
            assert sorted(card["id"] for card in listing["data"]) == ["a", "b", "c"]
            for model, replicas in {"a": both, "c": [third]}.items():
                body = CHAT.replace(b'"a"', f'"{model}"'.encode())
                assert (await ask(url, post(body))).status == 200
                assert next(r for r in [*both, third] if r.received) in replicas
                for replica in [*both, third]:
                    replica.received.clear()


async def test_own_pages_tell_how_the_proxy_is() -> None:
    async with recording(2) as replicas:
        fast = {"interval_s": 0.02, "unhealthy_after": 1}
        async with proxied([r.url for r in replicas], probe=fast) as (app, url):
            assert (await ask(url, request("GET", "/healthz"))).body == b"ok\n"
            for page in ("/readyz", "/health"):
                ready = await ask(url, request("GET", page))
                assert ready.status == 200
                assert orjson.loads(ready.body)["ready"] is True
            metrics = (await ask(url, request("GET", "/metrics"))).body.decode()
            assert metrics.count("kvproxy_replica_up{") == 2
            for replica in replicas:
                await replica.stop()
            await eventually(lambda: not app.router.ready())
            assert (await ask(url, request("GET", "/healthz"))).status == 200
            unready = await ask(url, request("GET", "/readyz"))
            assert (unready.status, orjson.loads(unready.body)["ready"]) == (503, False)
    assert not any(replica.received for replica in replicas)


async def test_a_request_id_is_kept_or_made() -> None:
    async with recording() as [replica], proxied([replica.url]) as (_, url):
        given = await ask(url, post(CHAT, x_request_id="mine-1"))
        made = await ask(url, post(CHAT))
        bad = await ask(url, post(CHAT, x_request_id="é" * 10))
    ids = [dict(received.headers)[b"x-request-id"] for received in replica.received]
    assert [a.header(b"x-request-id") for a in (given, made, bad)] == ids
    assert ids[0] == b"mine-1"
    assert [len(i) for i in ids[1:]] == [32, 32]


async def test_the_decision_is_told_on_request_only() -> None:
    async with recording() as [replica], proxied([replica.url]) as (_, url):
        asked = await ask(url, post(CHAT, x_kvproxy_decision="1", x_session_id="s"))
        plain = await ask(url, post(CHAT))
    assert plain.header(b"x-kvproxy-decision") is None
    told = orjson.loads(asked.header(b"x-kvproxy-decision") or b"")
    assert {"policy", "replica", "prompt_tokens", "predicted_cached_tokens"} <= set(told)
    assert told["evidence"] == "header:x-session-id"
    assert told["replica"].encode() == asked.header(b"x-kvproxy-replica")
    assert all(isinstance(seconds, float) for seconds in told["terms"].values())


async def test_one_connection_serves_many_requests() -> None:
    async with (
        recording() as [replica],
        proxied([replica.url]) as (_, url),
        connected(url) as (reader, writer),
    ):
        for _ in range(5):
            writer.write(post(CHAT))
            assert (await read_answer(reader)).status == 200
        # Two at once: answered in order.
        writer.write(request("GET", "/first") + request("GET", "/second"))
        assert [(await read_answer(reader)).status for _ in range(2)] == [200, 200]
    assert [r.target for r in replica.received[5:]] == ["/first", "/second"]
    assert replica.connections == 0
