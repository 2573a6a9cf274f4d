"""The metrics page, read back as Prometheus reads it."""

import contextlib
import json

import pytest
from prometheus_client.parser import text_string_to_metric_families

from kvproxy.core.admission import Admission, AdmissionLimits
from kvproxy.core.allowance import AllowanceLimits
from kvproxy.core.errors import ProxyError
from kvproxy.core.life_cycle import Health
from kvproxy.ops.metrics import CONTENT_TYPE, Metrics
from tests.support.fake_ports import World, stream

USAGE = {
    "prompt_tokens": 900,
    "completion_tokens": 2,
    "prompt_tokens_details": {"cached_tokens": 80},
}
Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def read(metrics: Metrics) -> Samples:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(metrics.page().decode())
        for sample in family.samples
    }


def metrics_of(world: World) -> Metrics:
    admission = Admission(world.router, AdmissionLimits(AllowanceLimits()))
    return Metrics(world.router, admission, world.clock)


def body(text: str = "x" * 4000, more: str = "") -> bytes:
    messages = json.dumps([{"role": "user", "content": text}])
    return f'{{"model":"m",{more}"messages":{messages}}}'.encode()


async def observed(world: World, raw: bytes, **header: str) -> Samples:
    metrics = metrics_of(world)
    given = {"content-type": "application/json"}
    given |= {name.replace("_", "-"): value for name, value in header.items()}
    with contextlib.suppress(ProxyError):
        await world.proxy.handle(world.exchange(raw, header=given))
    for record in world.records:
        metrics.observe(record)
    return read(metrics)


def test_every_replica_has_its_gauges_from_the_start() -> None:
    world = World([], replicas=2)
    world.router.replicas[1].life.health = Health.EJECTED
    samples = read(metrics_of(world))
    assert samples["kvproxy_replica_up", (("replica", "r0"),)] == 1
    assert samples["kvproxy_replica_up", (("replica", "r1"),)] == 0
    assert samples["kvproxy_replica_hbm_capacity_tokens", (("replica", "r0"),)] == 100_000
    assert samples["kvproxy_queue_length", ()] == samples["kvproxy_sessions", ()] == 0
    assert any(name == "kvproxy_build_info" for name, _ in samples)
    assert CONTENT_TYPE.startswith("text/plain; version=0.0.4")


def test_gauges_are_read_at_the_scrape() -> None:
    world = World([], replicas=1)
    metrics = metrics_of(world)
    placement = world.router.place_anywhere(0.0)
    key = ("kvproxy_replica_in_flight", (("replica", "r0"),))
    assert read(metrics)[key] == 1
    world.router.abort(placement, 1.0)
    assert read(metrics)[key] == 0


async def test_a_request_moves_the_counters() -> None:
    world = World(stream("a", usage=USAGE), replicas=1)
    samples = await observed(world, body(more='"stream":true,'), session_id="s1")
    replica = ("replica", "r0")
    assert samples["kvproxy_requests_total", (("outcome", "ok"), replica)] == 1
    assert samples["kvproxy_prompt_tokens_total", (replica,)] == 900
    assert samples["kvproxy_cached_tokens_total", (replica, ("source", "reported"))] == 80
    assert samples["kvproxy_cached_tokens_total", (replica, ("source", "predicted"))] == 0
    assert samples["kvproxy_cache_prediction_error_tokens_sum", (("source", "used"),)] == 80
    assert samples["kvproxy_ttft_seconds_count", (replica,)] == 1
    assert samples["kvproxy_request_seconds_count", (replica,)] == 1
    evidence = ("kvproxy_session_evidence_total", (("evidence", "header:session-id"),))
    assert samples[evidence] == 1
    assert samples["kvproxy_retries_total", ()] == 0
    assert samples["kvproxy_replica_sessions", (replica,)] == 1


@pytest.mark.parametrize(
    ("status", "more", "outcome", "ttfts"),
    [
        (200, '"stream":true,', "ok", 1),
        (200, "", "ok", 0),
        (400, '"stream":true,', "refused", 0),
        (500, '"stream":true,', "upstream_error", 0),
    ],
)
async def test_a_first_token_is_one_of_a_stream(
    status: int, more: str, outcome: str, ttfts: int
) -> None:
    """The first byte of a whole answer is its last token, and errors have none."""
    world = World([b'{"error":{}}'], replicas=1, status=status)
    samples = await observed(world, body(more=more))
    replica = ("replica", "r0")
    assert samples["kvproxy_requests_total", (("outcome", outcome), replica)] == 1
    assert samples.get(("kvproxy_ttft_seconds_count", (replica,)), 0) == ttfts
    assert samples["kvproxy_request_seconds_count", (replica,)] == 1


async def test_retries_and_failures_are_counted() -> None:
    world = World([], replicas=2, unreachable=frozenset({"r0", "r1"}))
    samples = await observed(world, body())
    outcomes = [labels for name, labels in samples if name == "kvproxy_requests_total"]
    assert [dict(labels)["outcome"] for labels in outcomes] == ["upstream_unreachable"]
    assert samples["kvproxy_retries_total", ()] == 1


async def test_splices_are_counted_by_kind() -> None:
    world = World(stream("a", usage=USAGE), replicas=1)
    await world.proxy.handle(world.exchange(body(more='"tools":[{"a":1,"b":2}],')))
    samples = await observed(world, body(more='"tools":[{"b":2,"a":1}],'))
    assert samples["kvproxy_splices_total", (("kind", "schema_order"), ("mode", "applied"))] == 1


async def test_requests_refused_before_a_replica_was_chosen() -> None:
    samples = await observed(World([], replicas=1), b"{")
    key = ("kvproxy_requests_total", (("outcome", "invalid_json"), ("replica", "")))
    assert samples[key] == 1


async def test_what_clients_do_wrong_is_refused_and_not_failed() -> None:
    """Else a key that ended looks like an outage."""
    ill = World([], replicas=1, unreachable=frozenset({"r0"}))
    header = {"content-type": "application/json"}
    for world, raw, failed in ((World([], replicas=1), b"{", 0), (ill, body(), 1)):
        metrics = metrics_of(world)
        with contextlib.suppress(ProxyError):
            await world.proxy.handle(world.exchange(raw, header=header))
        metrics.observe(world.records[-1])
        totals = metrics.totals()
        assert (totals["failed"], totals["refused"]) == (failed, 1 - failed)


@pytest.mark.parametrize("parts", [stream("secret", usage=USAGE), [b"secret"]])
async def test_nothing_that_a_client_says_is_on_the_page(parts: list[bytes]) -> None:
    world = World(parts, replicas=1)
    metrics = metrics_of(world)
    raw = json.dumps(
        {
            "model": "secret-model",
            "messages": [{"role": "secret-role", "content": "secret-text"}],
            "prompt_cache_key": "secret-key",
        }
    ).encode()
    header = {"content-type": "application/json", "session-id": "secret-session", "x-a": "secret"}
    exchange = world.exchange(raw, header=header, request_id="secret-id")
    await world.proxy.handle(exchange)
    await world.proxy.handle(world.exchange(b"", method="SECRET", path="/secret"))
    for record in world.records:
        metrics.observe(record)
    assert b"secret" not in metrics.page().lower()
