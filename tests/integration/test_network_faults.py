"""The real adapters behind a network that misbehaves, on the engines' side and on the clients'."""

import asyncio

import orjson
import pytest

from loadgen.emulator import EmulatorSettings, emulated
from tests.support.fault_proxy import Fault, Kind, faulty
from tests.support.proxies import eventually, proxied, settled
from tests.support.wire import WireAnswer, ask, connected, post, read_answer, request

CHAT = (
    b'{"model":"m","max_tokens":8,"temperature":0,'
    b'"stream":true,"messages":[{"role":"user","content":"hello"}]}'
)
PLAIN = CHAT.replace(b"true", b"false")
ENGINE = EmulatorSettings(model="m", decode_step_s=0.001)
PROBE = {"interval_s": 100.0}
# The head of an engine's answer is shorter than this, a stream of eight tokens longer.
INSIDE = 600


def is_whole(got: WireAnswer) -> bool:
    return got.complete and got.body.endswith(b"data: [DONE]\n\n") and b'"error"' not in got.body


@pytest.mark.parametrize(
    "fault",
    [
        Fault(Kind.REFUSE),
        Fault(Kind.RESET),
        Fault(Kind.TRUNCATE),
        Fault(Kind.RESET, after=20),
        Fault(Kind.TRUNCATE, after=20),
        Fault(Kind.HALF_CLOSE),
    ],
    ids=str,
)
async def test_before_the_first_byte_another_replica_answers(fault: Fault) -> None:
    async with emulated(ENGINE, 2) as engines, faulty(engines[0]) as bad:
        async with proxied([bad.url, engines[1]], probe=PROBE) as (app, url):
            bad.fault = fault
            for number in range(12):
                got = await ask(url, post(CHAT.replace(b"hello", b"hello %d" % number)))
                assert got.status == 200
                assert is_whole(got)
            await settled(app)
        assert bad.accepted > 1


async def test_garbage_for_an_answer_is_an_error_and_no_crash() -> None:
    """It was an answer, if none that can be read: the request is not sent twice."""
    async with (
        emulated(ENGINE) as [engine],
        faulty(engine) as bad,
        proxied([bad.url], probe=PROBE) as (app, url),
    ):
        bad.fault = Fault(Kind.GARBAGE)
        for body in (CHAT, PLAIN):
            assert (await ask(url, post(body))).status == 502
        await settled(app)
        bad.fault = Fault()
        assert is_whole(await ask(url, post(CHAT)))


@pytest.mark.parametrize("kind", [Kind.RESET, Kind.TRUNCATE, Kind.GARBAGE, Kind.STALL])
@pytest.mark.parametrize("after", [INSIDE, INSIDE + 1, INSIDE + 97])
async def test_inside_a_stream_the_client_gets_an_error_event(kind: Kind, after: int) -> None:
    async with emulated(ENGINE) as [engine], faulty(engine) as bad:
        limits = {"idle_timeout_s": 0.2}
        async with proxied([bad.url], probe=PROBE, upstream=limits) as (app, url):
            bad.fault = Fault(kind, after)
            got = await ask(url, post(CHAT))
            assert (got.status, got.complete) == (200, True)
            assert got.body.endswith(b"data: [DONE]\n\n")
            assert b'"error"' in got.body
            if kind is not Kind.GARBAGE:  # within a stated length any byte is as good as another
                assert not (await ask(url, post(PLAIN))).complete
            await settled(app)


@pytest.mark.parametrize("fault", [Fault(Kind.DRIBBLE), Fault(Kind.SLOW, delay_s=0.0005)], ids=str)
async def test_bytes_one_by_one_are_the_same_bytes(fault: Fault) -> None:
    async with (
        emulated(ENGINE) as [engine],
        faulty(engine) as slow,
        proxied([slow.url], probe=PROBE) as (app, url),
        faulty(url, fault) as client,
    ):
        slow.fault = fault
        got = await ask(client.url, post(CHAT))
        assert is_whole(got)
        assert _text(got) == _text(await ask(engine, post(CHAT)))
        await settled(app)


def _text(got: WireAnswer) -> str:
    events = [orjson.loads(line[6:]) for line in got.body.split(b"\n\n")[:-2]]
    return "".join(event["choices"][0]["delta"].get("content") or "" for event in events)


@pytest.mark.parametrize("kind", [Kind.RESET, Kind.TRUNCATE, Kind.STALL])
async def test_a_client_that_is_cut_off_frees_its_replica(kind: Kind) -> None:
    slow = EmulatorSettings(model="m", decode_step_s=0.01)
    long = post(CHAT.replace(b'"max_tokens":8', b'"max_tokens":100000'))
    async with emulated(slow) as [engine], proxied([engine]) as (app, url):
        async with faulty(url, Fault(kind, after=900)) as bad:
            asked = asyncio.create_task(ask(bad.url, long))
            await eventually(lambda: app.router.replicas[0].load.in_flight == 1)
            if kind is Kind.STALL:
                await asyncio.sleep(0.1)
                asked.cancel()
            await asyncio.gather(asked, return_exceptions=True)
        await settled(app)


async def test_a_request_that_trickles_in_is_given_up() -> None:
    async with emulated(ENGINE) as [engine]:
        limits = {"body_timeout_s": 0.2}
        async with proxied([engine], server=limits) as (app, url):
            async with connected(url) as (reader, writer):
                whole = post(CHAT)
                for at in range(0, len(whole), 8):
                    writer.write(whole[at : at + 8])
                    await asyncio.sleep(0.02)
                assert (await read_answer(reader)).status == 408
            async with connected(url) as (reader, writer):
                writer.write(b"GET / HT")
                assert (await read_answer(reader)).status == 408
            assert (await ask(url, request("GET", "/healthz"))).status == 200
            await settled(app)
