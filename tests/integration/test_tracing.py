"""Traces of requests: what a collector is told, what a replica is told, and what stays as it is."""

import asyncio
import logging
import re
import signal
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trustme

from kvproxy.adapters.tracing.outbox import Outbox
from kvproxy.app import App
from loadgen.emulator import EmulatorSettings, Fleet
from tests.integration.test_shutdown import served
from tests.support.certificates import write_ca
from tests.support.collector import Collector, Seen, collecting, named
from tests.support.proxies import Running, eventually, proxied, settled
from tests.support.recording import Mark, Received, RecordingReplica, answer, recording
from tests.support.wire import ask, connected, post, request

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
PARENT = f"00-{TRACE}-{SPAN}-01"
CHAT = b'{"model":"m","stream":true,"messages":[{"role":"user","content":"hello"}]}'
SERVER, CLIENT = 2, 3
ERROR = 2
SLOW_PROBE = {"interval_s": 100.0}
SSE = [(b"content-type", b"text/event-stream")]
EVENTS = (
    b'data: {"choices":[{"delta":{"content":"hi"}}]}\n\n'
    b'data: {"choices":[],"usage":{"prompt_tokens":9,"completion_tokens":2,'
    b'"prompt_tokens_details":{"cached_tokens":4}}}\n\ndata: [DONE]\n\n'
)
FLAT = re.compile(r"kvproxy_spans_total\{outcome=\"(\w+)\"\} (\d+)")


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Spans wait for others for a moment only."""
    monkeypatch.setattr(Outbox, "linger_s", 0.02)


def told(received: Received, name: bytes = b"traceparent") -> list[str]:
    return [value.decode() for key, value in received.headers if key.lower() == name]


@asynccontextmanager
async def traced(
    count: int = 1, **sections: Any
) -> AsyncIterator[tuple[list[RecordingReplica], Collector, Running]]:
    """Recorders that serve `m`, a collector, and a proxy between them."""
    tracing = sections.pop("tracing", {})
    async with collecting() as collector, recording(count, models=("m",)) as replicas:
        for replica in replicas:
            replica.script = lambda received: answer(EVENTS, headers=SSE)
        urls = [replica.url for replica in replicas]
        asked = {"endpoint": collector.url} | tracing
        async with proxied(urls, probe=SLOW_PROBE, tracing=asked, **sections) as running:
            yield replicas, collector, running


def counted(app: App) -> dict[str, int]:
    page = app.metrics.page().decode()
    return {outcome: int(float(value)) for outcome, value in FLAT.findall(page)}


def assert_whole(spans: list[Seen]) -> None:
    """One request's own span, everything else under it, in its time and in the order of verbs."""
    root, *steps = spans
    assert root.kind == SERVER
    assert {span.trace_id for span in spans} == {root.trace_id}
    assert {span.parent_id for span in steps} == {root.span_id}
    assert len({span.span_id for span in spans}) == len(spans)
    for span in steps:
        assert root.began <= span.began <= span.ended <= root.ended


async def test_a_trace_goes_on_from_the_client_to_the_replica() -> None:
    async with traced() as ([replica], collector, (_, url)):
        raw = post(CHAT, traceparent=PARENT, tracestate="a=1,b=2", x_session_id="secret-session")
        assert (await ask(url, raw)).status == 200
        spans = await collector.trace()
    assert_whole(spans)
    root, (forward,) = spans[0], named(spans, "forward")
    assert (root.trace_id, root.parent_id, root.name) == (TRACE, SPAN, "POST /v1/chat/completions")
    assert told(replica.received[0]) == [f"00-{TRACE}-{forward.span_id}-01"]
    assert told(replica.received[0], b"tracestate") == ["a=1,b=2"]
    assert {span.state for span in spans} == {"a=1,b=2"}
    names = [span.name for span in sorted(spans[1:], key=lambda span: span.began)]
    assert names == ["accept", "identify", "admit", "forward", "learn"]
    assert (forward.kind, forward.status) == (CLIENT, 0)
    assert forward.attributes == forward.attributes | {
        "gen_ai.operation.name": "chat",
        "gen_ai.request.model": "m",
        "gen_ai.response.model": "m",
        "gen_ai.usage.input_tokens": 9,
        "gen_ai.usage.output_tokens": 2,
        "gen_ai.usage.cache_read.input_tokens": 4,
        "server.address": "127.0.0.1",
        "server.port": replica.port,
        "http.response.status_code": 200,
    }
    assert root.began <= root.events["first_token"] == forward.events["first_token"] <= root.ended
    (admit,) = named(spans, "admit")
    assert admit.attributes["kvproxy.policy"] == "seconds"
    assert "secret-session" not in str(spans)
    assert collector.resource["service.name"] == "kvproxy"


async def test_the_trace_of_a_leg_arrives_whatever_else_is_let_pass() -> None:
    async with traced(upstream={"allow_headers": ["x-c"]}) as ([replica], collector, (_, url)):
        assert (await ask(url, post(CHAT, traceparent=PARENT, x_other="1"))).status == 200
        [forward] = named(await collector.trace(), "forward")
    assert told(replica.received[0]) == [f"00-{TRACE}-{forward.span_id}-01"]
    assert told(replica.received[0], b"x-other") == []


async def test_nobody_sends_a_trace_so_one_begins() -> None:
    async with traced() as ([replica], collector, (_, url)):
        assert (await ask(url, post(CHAT, tracestate="a=1"))).status == 200
        root, *_ = spans = await collector.trace()
    assert_whole(spans)
    assert root.parent_id == ""
    (said,) = told(replica.received[0])
    assert said == f"00-{root.trace_id}-{named(spans, 'forward')[0].span_id}-01"
    assert told(replica.received[0], b"tracestate") == []


@pytest.mark.parametrize(
    "hostile",
    [
        "",
        "x" * 4000,
        "00-" + "0" * 32 + f"-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        PARENT.upper(),
        PARENT + "-" + "1" * 300,
        f"ff{PARENT[2:]}",
    ],
)
async def test_a_hostile_header_begins_a_new_trace_and_goes_no_further(hostile: str) -> None:
    async with traced() as ([replica], collector, (_, url)):
        raw = post(CHAT, traceparent=hostile, tracestate="a=1")
        assert (await ask(url, raw)).status == 200
        root, *_ = spans = await collector.trace()
    assert_whole(spans)
    assert root.trace_id not in (TRACE, "0" * 32)
    (said,) = told(replica.received[0])
    assert said.startswith(f"00-{root.trace_id}-")
    assert told(replica.received[0], b"tracestate") == []


async def test_a_client_that_does_not_sample_is_followed() -> None:
    async with traced() as ([replica], collector, (app, url)):
        off = PARENT[:-2] + "00"
        raw = post(CHAT, traceparent=off, tracestate="a=1")
        assert (await ask(url, raw)).status == 200
        await settled(app)
        received = replica.received[0]
    assert (told(received), told(received, b"tracestate")) == ([off], ["a=1"])
    assert collector.spans == []


async def test_of_traces_that_begin_here_a_share_is_told() -> None:
    async with traced(tracing={"sample": 0}) as ([replica], collector, (_, url)):
        assert (await ask(url, post(CHAT))).status == 200
        (said,) = told(replica.received[0])
        assert said.endswith("-00")
        assert (await ask(url, post(CHAT, traceparent=PARENT))).status == 200
        await collector.traces(1)
    assert [span.trace_id for span in collector.roots()] == [TRACE]


async def test_off_nothing_is_sent_and_headers_pass_as_they_came() -> None:
    async with (
        collecting() as collector,
        recording(1, models=("m",)) as [replica],
        proxied([replica.url], probe=SLOW_PROBE) as (app, url),
    ):
        assert app.tracing is None
        for parent in (PARENT, "hostile", ""):
            await ask(url, post(CHAT, TraceParent=parent, tracestate="A=b=c"))
        await ask(url, post(CHAT))
    assert [told(received) for received in replica.received] == [[PARENT], ["hostile"], [""], []]
    assert told(replica.received[0], b"tracestate") == ["A=b=c"]
    assert collector.heads == []


async def test_a_trace_changes_nothing_else_of_what_a_replica_gets() -> None:
    async with recording(1, models=("m",)) as [replica]:
        async with proxied([replica.url], probe=SLOW_PROBE) as (_, url):
            plain = await ask(url, post(CHAT, x_request_id="1", X_Odd="a  b"))
        async with (
            collecting() as collector,
            proxied([replica.url], probe=SLOW_PROBE, tracing={"endpoint": collector.url}) as (
                _,
                url,
            ),
        ):
            on = await ask(url, post(CHAT, x_request_id="1", X_Odd="a  b"))
    before, after = replica.received
    assert after.body == before.body
    assert [pair for pair in after.headers if pair[0] != b"traceparent"] == before.headers
    assert (on.status, on.headers, on.body) == (plain.status, plain.headers, plain.body)


async def test_each_attempt_is_a_leg_with_an_id_of_its_own() -> None:
    async with traced(2) as (replicas, collector, (_, url)):
        for replica in replicas:
            replica.script = lambda received: (
                [Mark.CUT] if len(told_by(replicas)) == 1 else answer(EVENTS, headers=SSE)
            )
        assert (await ask(url, post(CHAT, traceparent=PARENT))).status == 200
        spans = await collector.trace()
    assert_whole(spans)
    lost, answered = named(spans, "forward")
    assert (lost.status, lost.attributes["error.type"]) == (ERROR, "upstream_lost")
    assert "http.response.status_code" not in lost.attributes
    assert (answered.status, answered.attributes["http.request.resend_count"]) == (0, 1)
    assert "gen_ai.usage.input_tokens" not in lost.attributes
    assert set(told_by(replicas)) == {f"00-{TRACE}-{leg.span_id}-01" for leg in (lost, answered)}
    first, again = named(spans, "admit")
    assert "kvproxy.reason" not in first.attributes
    assert again.attributes["kvproxy.reason"] == "upstream_lost"
    assert first.attributes["kvproxy.replica"] != again.attributes["kvproxy.replica"]
    assert spans[0].attributes["kvproxy.attempts"] == 2
    assert spans[0].status == 0


def told_by(replicas: list[RecordingReplica]) -> list[str]:
    return [each for replica in replicas for r in replica.received for each in told(r)]


async def test_an_engine_that_refuses_and_one_that_breaks_are_told_apart() -> None:
    async with traced() as ([replica], collector, (_, url)):
        replica.script = lambda received: answer(b"{}", status="400 Bad Request")
        assert (await ask(url, post(CHAT))).status == 400
        await collector.traces(1)
        begun = answer(EVENTS, headers=SSE, chunked=True)[:2]
        replica.script = lambda received: [*begun, Mark.CUT]
        await ask(url, post(CHAT))
        await collector.traces(2)
    refused, broken = sorted(collector.roots(), key=lambda span: span.began)
    assert (refused.status, refused.attributes["error.type"]) == (0, "400")
    assert (broken.status, broken.attributes["error.type"]) == (ERROR, "upstream_broke")
    assert broken.attributes["http.response.status_code"] == 200
    legs = named(collector.spans, "forward")
    assert [(leg.status, leg.attributes["error.type"]) for leg in legs] == [
        (ERROR, "400"),
        (ERROR, "upstream_broke"),
    ]


async def test_a_client_that_leaves_is_told_of_and_is_no_failure() -> None:
    async with traced() as ([replica], collector, (app, url)):
        replica.script = lambda received: [Mark.HOLD]
        async with connected(url) as (_, writer):
            writer.write(post(CHAT, traceparent=PARENT))
            received = await replica.next()
        await received.gone.wait()
        await settled(app)
        spans = await collector.trace()
    assert_whole(spans)
    root, (forward,) = spans[0], named(spans, "forward")
    assert root.attributes["kvproxy.outcome"] == "client_gone"
    for span in (root, forward):
        assert "client_gone" in span.events
        assert (span.status, "error.type" in span.attributes) == (0, False)


async def test_what_never_reaches_a_replica_is_told_too() -> None:
    secret = "secret-model"
    async with traced() as (_, collector, (_, url)):
        assert (await ask(url, post(CHAT[:-1]))).status == 400
        assert (await ask(url, post(CHAT.replace(b'"m"', b'"%s"' % secret.encode())))).status == 404
        assert (await ask(url, request("GET", "/version"))).status == 200
        await collector.traces(3)
    bad, unknown, other = sorted(collector.roots(), key=lambda span: span.began)
    assert (bad.attributes["error.type"], bad.status) == ("invalid_json", 0)
    assert (unknown.attributes["error.type"], unknown.status) == ("model_not_found", 0)
    assert (other.name, other.attributes["http.response.status_code"]) == ("GET", 200)
    assert secret not in str(collector.spans)


@pytest.mark.parametrize("protocol", ["http/protobuf", "http/json"])
async def test_both_protocols_say_the_same_with_the_headers_asked_for(protocol: str) -> None:
    tracing = {"protocol": protocol, "headers": "api-key=s%20ecret,x=y", "service_name": "edge"}
    async with traced(tracing=tracing) as (_, collector, (_, url)):
        assert (await ask(url, post(CHAT, traceparent=PARENT))).status == 200
        spans = await collector.trace()
    assert_whole(spans)
    path, header = collector.heads[0]
    assert (path, header["api-key"], header["x"]) == ("/v1/traces", "s ecret", "y")
    assert header["content-type"] == protocol.replace("http", "application").replace(
        "protobuf", "x-protobuf"
    )
    assert collector.resource["service.name"] == "edge"
    assert named(spans, "forward")[0].attributes["gen_ai.usage.input_tokens"] == 9
    assert spans[0].parent_id == SPAN


@pytest.mark.parametrize("known", [True, False])
async def test_a_collector_is_told_nothing_before_it_is_known_who_it_is(
    known: bool, tmp_path: Path
) -> None:
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    trusted = write_ca(authority if known else trustme.CA(), tmp_path)
    tracing = {"tls_ca": trusted, "timeout_s": 5.0}
    async with collecting(context) as collector, recording(1, models=("m",)) as [replica]:
        asked = {"endpoint": collector.url} | tracing
        async with proxied([replica.url], probe=SLOW_PROBE, tracing=asked) as (app, url):
            assert (await ask(url, post(CHAT))).status == 200
            await eventually(lambda: counted(app)["sent" if known else "failed"] == 6)
    assert len(collector.heads) == known


async def test_the_access_log_names_the_trace(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "kvproxy.access")
    async with traced(log={"access": True}) as (_, collector, (_, url)):
        await ask(url, post(CHAT, traceparent=PARENT))
        await ask(url, post(CHAT, traceparent=PARENT[:-2] + "00"))
        await collector.traces(1)
    lines = [vars(line)["fields"] for line in caplog.records if line.name == "kvproxy.access"]
    assert [line.get("trace_id") for line in lines] == [TRACE, None]


@pytest.mark.parametrize("how", ["refuses", "hangs", "is down"])
async def test_a_collector_that_is_not_well_costs_no_request(
    how: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    tracing = {"queue_max": 4, "timeout_s": 0.2}
    if how == "is down":
        tracing["endpoint"] = "http://127.0.0.1:9"
    async with traced(tracing=tracing) as ([replica], collector, (app, url)):
        collector.status = 400
        if how == "hangs":
            collector.open.clear()
        for _ in range(20):
            got = await ask(url, post(CHAT))
            assert (got.status, got.body) == (200, EVENTS)
        await settled(app)
        await eventually(lambda: counted(app)["failed"] > 0, 20)
        counts = counted(app)
        assert counts["sent"] == 0
        assert counts["failed"] + counts["dropped"] <= 20 * 6
        assert len(replica.received) == 20
        collector.open.set()
    said = [record for record in caplog.records if "spans" in record.getMessage()]
    assert [record.name for record in said] == ["kvproxy.tracing"]


async def test_two_legs_are_two_requests_of_one_trace() -> None:
    async with collecting() as collector, recording(2, models=("m",)) as replicas:
        said = b'{"choices":[],"kv_transfer_params":{"remote_engine_id":"e"}}'
        replicas[0].script = lambda received: answer(said)
        replicas[1].script = lambda received: answer(EVENTS, headers=SSE)
        roles = zip(replicas, ("prefill", "decode"), strict=True)
        disagg = {"connector": "nixl", "mode": "always", "min_tokens": 1}
        async with proxied(
            [],
            replicas=[{"url": replica.url, "role": role} for replica, role in roles],
            disagg=disagg,
            probe=SLOW_PROBE,
            tracing={"endpoint": collector.url},
        ) as (_, url):
            body = CHAT.replace(b"hello", b"hello " * 3000)
            assert (await ask(url, post(body, traceparent=PARENT))).status == 200
            spans = await collector.trace()
    assert_whole(spans)
    legs = named(spans, "forward")
    assert [leg.attributes["kvproxy.leg"] for leg in legs] == ["prefill", "answer"]
    assert not any("http.request.resend_count" in leg.attributes for leg in legs)
    assert [told(replica.received[0]) for replica in replicas] == [
        [f"00-{TRACE}-{leg.span_id}-01"] for leg in legs
    ]


async def test_conversations_of_an_emulated_fleet_are_told_whole() -> None:
    """Sixty turns at once: every trace complete, each replica told of the leg that reached it."""
    fleet = Fleet(EmulatorSettings(), 2, "127.0.0.1", 0)
    await fleet.start()
    try:
        async with (
            collecting() as collector,
            proxied(fleet.urls, tracing={"endpoint": collector.url}) as (app, url),
        ):
            model = next(iter(app.router.replicas[0].models)).encode()
            chat = CHAT.replace(b'"m"', b'"%s","max_tokens":3' % model)
            asked = [post(chat, x_session_id=f"s{index % 20}") for index in range(60)]
            got = await asyncio.gather(*(ask(url, raw) for raw in asked))
            assert {each.status for each in got} == {200}
            traces = await collector.traces(60)
            await eventually(lambda: counted(app)["sent"] == 360)
            counts = counted(app)
    finally:
        await fleet.stop()
    assert len(traces) == 60
    for spans in traces.values():
        assert_whole(spans)
        assert len(spans) == 6
        assert spans[0].attributes["kvproxy.replica"] in [u[7:] for u in fleet.urls]
    assert counts == {"sent": 360, "dropped": 0, "failed": 0}
    sessions = {spans[0].attributes["gen_ai.conversation.id"] for spans in traces.values()}
    assert len(sessions) == 20


async def test_workers_tell_each_their_own_and_are_counted_together() -> None:
    async with (
        collecting() as collector,
        recording(1, models=("m",)) as [replica],
        served(
            *("--workers", "2", "--replica", replica.url),
            *("--tracing-endpoint", collector.url, "--tracing-service-name", "edge"),
        ) as (process, url),
    ):
        replica.script = lambda received: answer(EVENTS, headers=SSE)
        got = [await ask(url, post(CHAT, traceparent=PARENT)) for _ in range(8)]
        assert {each.status for each in got} == {200}
        await eventually(lambda: len(collector.roots()) == 8, 30.0)

        async def all_sent() -> bool:
            page = await ask(url, request("GET", "/metrics"))
            return 'kvproxy_spans_total{outcome="sent"} 48.0' in page.body.decode()

        await eventually(all_sent, 30.0)
        process.send_signal(signal.SIGTERM)
        assert await process.wait() == 0
    legs = {span.span_id for span in named(collector.spans, "forward")}
    assert {each.split("-")[2] for each in told_by([replica])} == legs
    assert {span.parent_id for span in collector.roots()} == {SPAN}
    assert collector.resource["service.name"] == "edge"
