"""Spans of requests that went on fake ports; of whole servers: integration/test_tracing."""

import asyncio
import json
from collections.abc import Callable
from dataclasses import replace
from itertools import count

import pytest

from kvproxy.adapters.tracing.ports import RUNNING, TracedPlacer, TracedReader, TracedUpstream
from kvproxy.core.errors import ERRORS, ProxyError
from kvproxy.core.trace import Kind, Span, Trace
from kvproxy.core.trace_context import Parent
from kvproxy.ops.request_spans import spans_of
from tests.support.fake_ports import World, stream

USAGE = {
    "prompt_tokens": 900,
    "completion_tokens": 2,
    "prompt_tokens_details": {"cached_tokens": 512},
}
HEADER = {
    "x-session-id": "secret-name",
    "authorization": "Bearer sk-secret",
    "content-type": "application/json",
    "user-agent": "claude-cli/1",
}
BODY = {"model": "m", "messages": [{"role": "user", "content": "secret text"}]}


def ids() -> Callable[[], str]:
    numbers = count(1)
    return lambda: f"{next(numbers):016x}"


async def spans(
    world: World, body: bytes = json.dumps(BODY).encode(), **given: object
) -> list[Span]:
    for replica in world.router.replicas:
        replica.models = ("m",)
    proxy, clock = world.proxy, world.clock
    traced = replace(
        proxy,
        reader=TracedReader(proxy.reader, clock),
        placer=TracedPlacer(proxy.placer, clock),
        upstream=TracedUpstream(proxy.upstream, clock),
    )
    trace = Trace("a" * 32, "b" * 16, 1, Parent("a" * 32, "c" * 16, 1, "v=1"))

    async def run() -> None:
        RUNNING.set(trace)
        await traced.handle(world.exchange(body, header=HEADER, **given))

    await asyncio.gather(asyncio.create_task(run()), return_exceptions=True)
    return spans_of(world.records[-1], trace, ids(), lambda name: "digest")


def names(told: list[Span]) -> list[str]:
    return [span.name for span in told]


async def test_a_turn_is_told_by_the_verbs_of_its_life() -> None:
    told = await spans(World(stream("a", usage=USAGE)))
    assert names(told)[1:] == ["accept", "identify", "admit", "forward", "learn"]
    root = told[0]
    assert (root.name, root.kind, root.remote) == ("POST /v1/chat/completions", Kind.SERVER, True)
    assert (root.span_id, root.parent_id) == ("b" * 16, "c" * 16)
    assert {span.parent_id for span in told[1:]} == {"b" * 16}
    assert {(span.trace_id, span.state) for span in told} == {("a" * 32, "v=1")}
    assert len({span.span_id for span in told}) == 6
    assert not any(span.error or span.failed for span in told)
    for span in told:
        assert root.began <= span.began <= span.ended <= root.ended


async def test_usage_is_told_once() -> None:
    told = await spans(World(stream("a", usage=USAGE)))
    having = [span for span in told if "gen_ai.usage.input_tokens" in span.attributes]
    assert names(having) == ["forward"]
    attributes = having[0].attributes
    assert attributes["gen_ai.usage.input_tokens"] == 900
    assert attributes["gen_ai.usage.output_tokens"] == 2
    assert attributes["gen_ai.usage.cache_read.input_tokens"] == 512
    assert attributes["gen_ai.response.time_to_first_chunk"] > 0  # type: ignore[operator]
    assert told[-1].attributes["kvproxy.reported_cached_tokens"] == 512


async def test_no_text_no_key_and_no_name_of_a_conversation() -> None:
    told = await spans(World(stream("a", usage=USAGE)))
    assert "secret" not in str(told)
    assert told[0].attributes["gen_ai.conversation.id"] == "digest"
    assert told[0].attributes["kvproxy.client"] == "claude_code"
    world = World(stream("a"))
    unknown = await spans(world, json.dumps(BODY | {"model": "secret"}).encode())
    assert unknown[0].error == "model_not_found"
    assert "secret" not in str(unknown)


@pytest.mark.parametrize("code", ["upstream_broke", "upstream_timeout", "invalid_body"])
async def test_errors_are_told_and_failures_are_those_of_servers(code: str) -> None:
    told = await spans(World([ProxyError(code, "no")], replicas=1))
    root = told[0]
    (forward,) = [span for span in told if span.name == "forward"]
    assert (root.error, forward.error, forward.failed) == (code, code, True)
    assert root.failed


async def test_a_client_that_left_is_an_event_and_no_error() -> None:
    told = await spans(World(stream("a"), cancel_at=2))
    assert told[0].attributes["kvproxy.outcome"] == "client_gone"
    assert [event.name for event in told[0].events] == ["client_gone"]
    assert not any(span.error or span.failed for span in told)
    assert names(told)[-1] == "admit"
    assert told[-1].events


async def test_a_client_that_left_with_half_its_body_was_only_accepted() -> None:
    told = await spans(World(stream("a"), cancel_at=1))
    assert names(told)[1:] == ["accept"]
    assert told[1].events
    assert told[1].ended == told[0].ended


async def test_a_body_that_is_none_fails_where_it_is_read() -> None:
    told = await spans(World(stream("a")), b"{")
    assert names(told)[1:] == ["accept", "identify"]
    assert [span.error for span in told] == ["invalid_json", "", "invalid_json"]
    assert not any(span.failed for span in told)
    assert ERRORS["invalid_json"].status == 400


async def test_what_is_not_understood_is_told_with_less() -> None:
    told = await spans(
        World([b"{}"], status=500),
        path="/version",
        method="GET",
    )
    assert (told[0].name, told[0].failed) == ("GET", True)
    assert "http.route" not in told[0].attributes
    assert not any(key.startswith("gen_ai") for span in told for key in span.attributes)
    forward = next(span for span in told if span.name == "forward")
    assert forward.attributes["server.port"] == 80


async def test_two_tries_are_two_legs_and_the_answer_is_the_last() -> None:
    world = World(stream("a", usage=USAGE))
    world.upstream.unreachable = frozenset(r.id for r in world.router.replicas if r.id != "r0")
    legs: list[Span] = []
    for word in range(30):
        body = BODY | {"messages": [{"role": "user", "content": f"hello {word}"}]}
        told = await spans(world, json.dumps(body).encode())
        legs = [span for span in told if span.name == "forward"]
        if len(legs) > 1:
            break
    assert len(legs) > 1, "the first word of some request goes elsewhere"
    assert [leg.error for leg in legs[:-1]] == ["upstream_unreachable"] * (len(legs) - 1)
    assert legs[-1].attributes["http.request.resend_count"] == len(legs) - 1
    assert "gen_ai.usage.input_tokens" not in legs[0].attributes
    waits = [span for span in told if span.name == "admit"]
    assert waits[-1].attributes["kvproxy.reason"] == "upstream_unreachable"
