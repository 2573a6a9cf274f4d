"""Every kind of path with every kind of key, on a running proxy."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from hashlib import sha256
from typing import Any

import orjson
import pytest

from kvproxy.app import _OPEN as OPEN
from tests.support.proxies import Running, proxied, settled
from tests.support.recording import RecordingReplica, answer, recording
from tests.support.wire import ask, request

CHAT = b'{"model":"a","messages":[{"role":"user","content":"hello"}]}'
CHATS = "/v1/chat/completions"
JSON = ("content-type", "application/json")
KEYS: list[dict[str, Any]] = [
    {"name": "alice", "models": ["a"]},
    {"name": "bob"},
    {"name": "slow", "requests_per_min": 1},
    {"name": "root", "admin": True},
]
HEADERS: dict[str, list[tuple[str, str]]] = {
    "none": [],
    "wrong": [("authorization", "Bearer nothing-of-ours")],
    "alice": [("authorization", "Bearer key-of-alice")],
    "bob": [("x-api-key", "key-of-bob")],
    "root": [("authorization", "Bearer key-of-root")],
}
PATHS = {
    "use": [
        ("POST", "/v1/chat/completions", CHAT),
        ("POST", "/v1/completions", b'{"model":"a","prompt":"x"}'),
        ("GET", "/v1/models", None),
    ],
    "other_model": [("POST", "/v1/chat/completions", CHAT.replace(b'"a"', b'"b"'))],
    "passed_on": [("POST", "/v1/embeddings", b'{"model":"a","input":"x"}')],
    "unread": [("POST", "/v1/embeddings", b'{"input":"x"}')],
    "operate": [
        ("GET", "/metrics", None),
        ("GET", "/admin/regime", None),
        ("GET", "/admin/replicas", None),
    ],
    "command": [
        ("POST", "/sleep", b""),
        ("POST", "/%73leep", b""),
        ("POST", "/v1/load_lora_adapter", b"{}"),
        ("POST", "/v1/load_lora_adapter/", b"{}"),
        ("POST", "http://engine/v1/load_lora_adapter?x=/v1/models", b"{}"),
        ("POST", "/v1/%6coad_lora_adapter", b"{}"),
        ("POST", "/v1/../sleep", b""),
        ("POST", "/collective_rpc", b"{}"),
        ("GET", "/nothing", None),
    ],
    "open": [("GET", "/healthz", None), ("GET", "/readyz", None)],
}
CHANGES: list[tuple[str, str, bytes]] = [
    ("POST", "/admin/replicas/r/undrain", b""),
    ("DELETE", "/admin/replicas/none", b""),
    ("POST", "/admin/replicas", b'{"url":"http://127.0.0.1:9"}'),
    ("POST", "/admin/reload", b""),
]
ALLOWED = {
    "none": {"open"},
    "wrong": {"open"},
    "alice": {"open", "use", "passed_on"},
    "bob": {"open", "use", "other_model", "passed_on", "unread"},
    "root": {"open", "use", "other_model", "passed_on", "unread", "operate", "command"},
}


@asynccontextmanager
async def guarded() -> AsyncIterator[tuple[Running, RecordingReplica]]:
    keys = [{"sha256": sha256(f"key-of-{key['name']}".encode()).hexdigest(), **key} for key in KEYS]
    access = {"keys": keys, "metrics_open": False}
    async with recording() as [replica]:
        replica.script = lambda received: answer(b"{}")
        async with proxied([replica.url], access=access) as running:
            yield running, replica


def expected(who: str, kind: str) -> set[int]:
    if kind in ALLOWED[who]:
        return {200}
    return {401} if who in ("none", "wrong") else {403, 404}


@pytest.mark.parametrize("who", HEADERS)
async def test_changes_are_for_admins(who: str) -> None:
    async with guarded() as ((app, url), replica):
        for method, target, body in CHANGES:
            got = await ask(url, request(method, target, [*HEADERS[who], JSON], body))
            wanted = {200, 201, 404, 409} if who == "root" else expected(who, "change")
            assert got.status in wanted, (who, method, target, got.status)
        assert len(app.router.replicas) == (2 if who == "root" else 1)
        await settled(app)
    assert not replica.received


async def test_without_keys_nobody_changes_anything() -> None:
    async with recording() as [replica], proxied([replica.url]) as (app, url):
        for method, target, body in CHANGES:
            got = await ask(url, request(method, target, [JSON], body))
            assert got.status == 403
        assert len(app.router.replicas) == 1


@pytest.mark.parametrize("who", HEADERS)
async def test_the_whole_matrix(who: str) -> None:
    async with guarded() as ((app, url), replica):
        for kind, requests in PATHS.items():
            for method, target, body in requests:
                got = await ask(url, request(method, target, [*HEADERS[who], JSON], body))
                assert got.status in expected(who, kind), (who, method, target, got.status)
        await settled(app)
    sent = b"".join(name + value for one in replica.received for name, value in one.headers)
    assert b"key-of-" not in sent


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("who", HEADERS)
async def test_every_page_of_our_own(who: str, method: str) -> None:
    """Those that are added later, too."""
    async with guarded() as ((app, url), replica):
        pages = dict.fromkeys(app.server._routes, "operate")
        assert len(pages) > 8
        pages |= dict.fromkeys(OPEN, "open") | {"/v1/models": "use"}
        for path, kind in pages.items():
            for target in (path, f"{path}?a=b", f"http://elsewhere{path}"):
                got = await ask(url, request(method, target, HEADERS[who]))
                wanted = expected(who, kind)
                # Some want to be told about what, and one leads to another.
                wanted |= {308, 400, 404} if 200 in wanted else set()
                assert got.status in wanted, (who, target, got.status)
        await settled(app)
    assert not replica.received


@pytest.mark.parametrize("who", HEADERS)
async def test_a_fragment_leads_nowhere(who: str) -> None:
    """Engines cut it off: they would take a command for which no admin key was asked."""
    async with guarded() as ((app, url), replica):
        for target in ("/v1/load_lora_adapter#x", "/v1/load_lora_adapter#?x", "/metrics#", "/#"):
            got = await ask(url, request("POST", target, [*HEADERS[who], JSON], b"{}"))
            wanted = {400} if who == "root" else {400, 401, 403}
            assert got.status in wanted, (who, target, got.status)
        await settled(app)
    assert not replica.received


async def test_refused_requests_reach_no_replica_and_say_why() -> None:
    async with guarded() as ((app, url), replica):
        got = await ask(url, request("POST", "/v1/chat/completions", [JSON], CHAT))
        assert (got.status, got.header(b"www-authenticate")) == (401, b"Bearer")
        error = orjson.loads(got.body)["error"]
        assert "Authorization: Bearer" in error["message"]
        assert not replica.received
        await settled(app)


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/%63hat/completions", "/v1/new"])
@pytest.mark.parametrize(
    "member",
    [
        b'"kv_transfer_params":{}',
        b'"kv\\u005ftransfer_params":{}',
        b'"vllm_xargs":{"kv_transfer_params":"x"}',
    ],
)
async def test_engines_are_not_told_where_to_fetch_kv_from(member: bytes, path: str) -> None:
    body = b'{"model":"a","messages":[],%b}' % member
    key = [("x-api-key", "key-of-alice"), JSON]
    async with guarded() as ((app, url), replica):
        got = await ask(url, request("POST", path, key, body))
        assert got.status == 403
        assert orjson.loads(got.body)["error"]["param"] == "kv_transfer_params"
        assert not replica.received
        await settled(app)


WITHIN = b'{"model":"a","messages":[],"vllm_xargs":{"kv_transfer_params":"x"}}'
GENERATE = b'{"token_ids":[1],"sampling_params":{"extra_args":{"kv_transfer_params":{}}}}'
TAKING = b'{"model":"a","messages":[],"kv_transfer_params":{"do_remote_prefill":true}}'


@pytest.mark.parametrize(
    ("path", "said", "body", "status"),
    [
        ("/v1/chat/%63ompletions", JSON, TAKING, 403),
        ("/v1%2Fchat/completions", JSON, TAKING, 403),
        ("/v1/chat/completions", ("content-encoding", "identity"), TAKING, 403),
        ("/v1/chat/completions", ("content-encoding", "gzip"), TAKING, 403),
        (
            "/v1/chat/completions",
            ("content-encoding", "gzip"),
            TAKING.decode().encode("utf-16"),
            400,
        ),
        ("/v1/embeddings", JSON, TAKING, 403),
        ("/invocations", JSON, TAKING, 403),
        ("/v1/chat/completions", JSON, WITHIN, 403),
        ("/inference/v1/generate", JSON, GENERATE, 403),
        ("/v1/embeddings", JSON, b"\xef\xbb\xbf" + TAKING, 403),
        ("/v1/embeddings", JSON, TAKING.replace(b"[]", b"NaN"), 403),
        ("/v1/embeddings", JSON, TAKING.decode().encode("utf-32-le"), 403),
        ("/v1/embeddings", JSON, b"\xef\xbb\xbf" + TAKING + b" " * 2**20, 400),
        ("/v1/chat/%63ompletions", ("content-type", "text/plain"), TAKING, 400),
    ],
)
async def test_nothing_that_an_engine_reads_is_unread_here(
    path: str, said: tuple[str, str], body: bytes, status: int
) -> None:
    """However it is written, and wherever it stands."""
    key = [("x-api-key", "key-of-bob"), said] + [JSON] * (said[0] == "content-encoding")
    async with guarded() as ((app, url), replica):
        got = await ask(url, request("POST", path, key, body))
        assert (got.status, replica.received) == (status, [])
        await settled(app)


async def test_a_key_pays_for_what_it_hides() -> None:
    """What says that it is encoded and is not is read as an engine reads it."""
    headers = [("x-api-key", "key-of-root"), JSON]
    async with guarded() as ((app, url), replica):
        for path, more in (("/v1/chat/%63ompletions", []), (CHATS, [("content-encoding", "gzip")])):
            got = await ask(url, request("POST", path, [*headers, *more], CHAT))
            assert got.status == 200
        await ask(
            url, request("POST", CHATS, [*headers, ("content-encoding", "gzip")], b"\x1f\x8b")
        )
        await settled(app)
        metrics = (await ask(url, request("GET", "/metrics", headers))).body
    assert [one.target for one in replica.received] == ["/v1/chat/%63ompletions", CHATS, CHATS]
    assert replica.received[2].body == b"\x1f\x8b"
    assert b"kvproxy_request_seconds_count{" in metrics
    [counted] = [line for line in metrics.split(b"\n") if b"request_seconds_count" in line]
    assert counted.endswith(b" 2.0")


@pytest.mark.parametrize(
    "second",
    [
        b'Content-Disposition: form-data; name="model"',
        b'content-disposition: form-data; name="model"; filename="x"',
        b"Content-Type: text/plain\r\nContent-Disposition: form-data; name=model; a=b",
        b"Content-Disposition: form-data; name*=utf-8''%6dodel",
    ],
)
async def test_a_form_names_no_model_behind_another(second: bytes) -> None:
    """Engines take the last."""
    one = b'--b\r\nContent-Disposition: form-data; name="model"\r\n\r\na\r\n'
    file = b'--b\r\nContent-Disposition: form-data; name="file"; filename="model"\r\n\r\nb\r\n'
    other = b"--b\r\n" + second + b"\r\n\r\nb\r\n"
    headers = [*HEADERS["alice"], ("content-type", 'multipart/form-data; boundary="b"')]
    async with guarded() as ((app, url), replica):
        for parts, status in (([one, file], 200), ([one, other], 404), ([other, one], 404)):
            body = b"".join([*parts, b"--b--\r\n"])
            got = await ask(url, request("POST", "/v1/audio/transcriptions", headers, body))
            assert got.status == status, parts
        await settled(app)
    assert len(replica.received) == 1


async def test_a_rate_is_said_and_kept() -> None:
    key = [("x-api-key", "key-of-slow"), JSON]
    async with guarded() as ((app, url), _):
        first = await ask(url, request("POST", "/v1/chat/completions", key, CHAT))
        second = await ask(url, request("POST", "/v1/chat/completions", key, CHAT))
        await settled(app)
    assert (first.status, second.status) == (200, 429)
    assert 1 <= int(second.header(b"retry-after") or 0) <= 60


async def test_tenants_do_not_share_first_seen_spellings() -> None:
    """What one tenant sent first must not be spliced into what another sends."""
    tool = b'{"type":"function","function":{"name":"f","parameters":{%s}}}'
    bodies = [
        CHAT[:-1] + b',"tools":[' + tool % inner + b"]}"
        for inner in (b'"type":"object","properties":{}', b'"properties":{},"type":"object"')
    ]
    async with guarded() as ((app, url), replica):
        for who, body in (("bob", bodies[0]), ("root", bodies[1]), ("bob", bodies[1])):
            got = await ask(
                url, request("POST", "/v1/chat/completions", [*HEADERS[who], JSON], body)
            )
            assert got.status == 200
        await settled(app)
    assert [one.body for one in replica.received] == [bodies[0], bodies[1], bodies[0]]
