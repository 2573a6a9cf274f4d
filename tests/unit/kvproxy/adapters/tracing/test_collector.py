"""What is tried again, for how long, and what is said of it in the end."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from kvproxy.adapters.tracing.collector import Collector
from kvproxy.adapters.tracing.outbox import Taken
from tests.support.recording import Answer, Mark, Received, RecordingReplica, answer, recording


@asynccontextmanager
async def asked(
    script: Callable[[Received], Answer], timeout_s: float = 10.0
) -> AsyncIterator[tuple[RecordingReplica, Collector]]:
    async with recording(1) as [there]:
        there.script = script
        collector = made(f"{there.url}/v1/traces", timeout_s)
        yield there, collector
        await collector.close()


def made(url: str, timeout_s: float = 10.0) -> Collector:
    headers = {"api-key": "k", "content-type": "x/y"}
    return Collector(url, headers, timeout_s, ssl.create_default_context(), lambda said: Taken())


async def test_a_message_arrives_with_its_headers() -> None:
    async with asked(lambda received: answer(b"")) as (there, collector):
        assert await collector.post(b"body") == Taken()
        assert await collector.post(b"more") == Taken()
    first, second = there.received
    named = {name.decode().lower(): value.decode() for name, value in first.headers}
    assert (first.method, first.target, first.body) == ("POST", "/v1/traces", b"body")
    assert (named["api-key"], named["content-type"]) == ("k", "x/y")
    assert second.body == b"more"


@pytest.mark.parametrize("status", ["429 Slow", "503 No", "502 No", "504 No"])
async def test_what_may_pass_is_tried_again(status: str) -> None:
    retry = [(b"retry-after", b"0")]
    failed = answer(b"", status=status, headers=retry)
    tries = iter([failed, failed, answer(b"")])
    async with asked(lambda received: next(tries)) as (there, collector):
        assert await collector.post(b"body") == Taken()
    assert [received.body for received in there.received] == [b"body"] * 3


async def test_a_connection_that_breaks_is_tried_again() -> None:
    tries = iter([[Mark.CUT], answer(b"")])
    async with asked(lambda received: next(tries)) as (there, collector):
        assert await collector.post(b"body") == Taken()
    assert len(there.received) == 2


@pytest.mark.parametrize("status", ["400 Bad", "401 Who", "404 Where", "500 Own fault", "301 Go"])
async def test_what_will_not_pass_is_final_and_says_why(status: str) -> None:
    script = answer(b"bad \xff\x1b[31mspans" + b"x" * 999, status=status)
    async with asked(lambda received: script) as (there, collector):
        taken = await collector.post(b"body")
    assert taken.refused is None
    assert taken.why.startswith(f"it answers {status[:3]} bad ")
    assert taken.why.isprintable()
    assert len(taken.why) < 230
    assert len(there.received) == 1


async def test_the_time_bounds_all_tries() -> None:
    async with asked(lambda received: answer(b"", status="503 No"), 0.5) as (there, collector):
        taken = await collector.post(b"body")
    assert taken == Taken(None, "it answers 503")
    assert 1 <= len(there.received) <= 3
    async with asked(lambda received: [Mark.HOLD], 0.05) as (there, collector):
        assert await collector.post(b"body") == Taken(None, "no answer within 0.05 s")


async def test_a_wait_that_is_asked_for_and_too_long_is_not_begun() -> None:
    late = answer(b"", status="429 Slow", headers=[(b"retry-after", b"60")])
    async with asked(lambda received: late) as (there, collector), asyncio.timeout(5):
        assert (await collector.post(b"body")).why == "it answers 429"
    assert len(there.received) == 1


async def test_nobody_there_is_said_so() -> None:
    collector = made("http://127.0.0.1:9/v1/traces", 0.1)
    taken = await collector.post(b"body")
    assert taken.refused is None
    assert "127.0.0.1:9" in taken.why
    await collector.close()
    await made("http://127.0.0.1:9").close()
