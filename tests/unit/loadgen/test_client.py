import asyncio
import time

import pytest
from aiohttp import web

from loadgen import client as client_module
from loadgen.client import Client, ClientSettings
from loadgen.sample import Sample
from loadgen.wire import Endpoint, Wire
from tests.support.chat_mock import Answer, chat_mock, chunk, event, silence, stream, usage

DONE = b"data: [DONE]\n\n"
ABORTED = event({"choices": [{"delta": {"content": "two "}, "finish_reason": "abort"}]})
BODY = b'{"model":"m","messages":[]}'


def answering(*parts: bytes, headers: dict[str, str] | None = None) -> Answer:
    async def answer(request: web.Request, body: dict[str, object]) -> web.StreamResponse:
        return await stream(request, list(parts), headers)

    return answer


def refusing(status: int, headers: dict[str, str] | None = None) -> Answer:
    async def answer(request: web.Request, body: dict[str, object]) -> web.StreamResponse:
        return web.json_response({"error": "busy"}, status=status, headers=headers)

    return answer


async def send(*answers: Answer, scale: float = 1.0, timeout_s: float = 30.0) -> Sample:
    sample = Sample("c", "t", 0)
    async with chat_mock(*answers) as mock:
        wire = Wire(Endpoint(mock.url))
        client = Client(wire, ClientSettings(scale, timeout_s), time.monotonic())
        try:
            await client.send(sample, {}, BODY, time.monotonic())
        finally:
            wire.close()
    return sample


async def test_a_streamed_answer_fills_the_sample() -> None:
    headers = {
        "x-request-id": "r1",
        "x-kvproxy-replica": "a",
        "x-kvproxy-decision": '{"policy":"seconds","replica":"a","predicted_cached_tokens":48,'
        '"evidence":"header","queue_s":0.5,"waited_s":0,"terms":{}}',
    }
    parts = [chunk("one "), chunk("two "), usage(100, 2, 64), DONE]
    sample = await send(answering(*parts, headers=headers))
    assert sample.ok
    assert (sample.status, sample.replica, sample.policy) == (200, "a", "seconds")
    assert (sample.prompt_tokens, sample.cached_tokens, sample.completion_tokens) == (100, 64, 2)
    assert (sample.predicted_cached_tokens, sample.queue_s) == (48, 0.5)
    assert sample.t_first_token is not None
    assert sample.t_end is not None
    assert sample.ttft_s is not None
    assert sample.ttft_wire_s is not None
    assert sample.ttft_wire_s <= sample.ttft_s
    assert len(sample.chunks) == 2
    assert sample.silent_s is None


async def test_latencies_are_in_engine_seconds() -> None:
    parts = [chunk("one "), chunk("two "), usage(1, 2, 0), DONE]
    sample = await send(answering(*parts), scale=10)
    assert sample.ttft_s is not None
    assert sample.t_first_token is not None
    real = sample.t_first_token - sample.t_intended
    assert sample.ttft_s == pytest.approx(10 * real, abs=1e-4)


async def test_role_and_usage_chunks_are_no_tokens() -> None:
    role = event({"choices": [{"delta": {"role": "assistant", "content": ""}}]})
    sample = await send(answering(role, usage(3, 0, None), DONE))
    assert (sample.error, sample.ttft_s, sample.cached_tokens) == ("no_tokens", None, None)


@pytest.mark.parametrize(
    ("parts", "error"),
    [
        ([chunk("one ")], "truncated"),
        ([chunk("one "), event({"error": {"message": "gone"}}), DONE], "engine_error"),
        ([chunk("one "), ABORTED, usage(3, 1, 0), DONE], "engine_error"),
        ([b"data: nonsense\n\n"], "bad_stream"),
    ],
)
async def test_bad_streams_have_a_class(parts: list[bytes], error: str) -> None:
    assert (await send(answering(*parts))).error == error


@pytest.mark.parametrize(
    ("status", "error"), [(400, "http_4xx"), (404, "http_4xx"), (500, "http_5xx")]
)
async def test_refusals_have_a_class_and_keep_what_was_said(status: int, error: str) -> None:
    sample = await send(refusing(status))
    assert (sample.error, sample.status, sample.attempts) == (error, status, 1)
    assert "busy" in sample.error_detail


@pytest.mark.parametrize("status", [429, 503])
async def test_busy_endpoints_are_asked_again(status: int) -> None:
    well = answering(chunk("one "), usage(1, 1, 0), DONE)
    sample = await send(refusing(status, {"Retry-After": "0"}), well)
    assert (sample.ok, sample.attempts, sample.status) == (True, 2, 200)


async def test_a_busy_endpoint_is_not_asked_for_ever() -> None:
    sample = await send(refusing(429, {"Retry-After": "0"}))
    assert (sample.error, sample.attempts) == ("rate_limited", client_module.ATTEMPTS_MAX)


async def test_silence_times_out() -> None:
    sample = await send(silence, timeout_s=0.2, scale=10)
    assert sample.error == "timeout"
    assert sample.silent_s is not None
    assert sample.silent_s >= 2.0


async def test_a_cancelled_request_says_so() -> None:
    sample = Sample("c", "t", 0)
    async with chat_mock(silence) as mock:
        wire = Wire(Endpoint(mock.url))
        client = Client(wire, ClientSettings(), time.monotonic())
        task = asyncio.create_task(client.send(sample, {}, BODY, time.monotonic()))
        await mock.asked.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        wire.close()
    assert sample.error == "cancelled"
    assert sample.t_end is not None
    assert sample.silent_s == pytest.approx(sample.t_end - sample.t_intended, abs=1e-5)


async def test_itl_does_not_count_the_tokens_of_the_first_chunk() -> None:
    async def answer(request: web.Request, body: dict[str, object]) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(chunk("four tokens in all. "))
        await asyncio.sleep(0.05)
        await response.write(chunk("four tokens of them "))
        await response.write(usage(1, 8, 0) + DONE)
        await response.write_eof()
        return response

    sample = await send(answer)
    assert sample.itl_s is not None
    assert len(sample.chunks) == 2
    assert sample.itl_s == pytest.approx(sample.chunks[1] / 1e4 / 4, abs=1e-4)
