"""`python -m kvproxy serve` as a process: what it prints, how it ends."""

import asyncio
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import orjson
import pytest

from tests.support.proxies import eventually
from tests.support.recording import Mark, RecordingReplica, answer, recording
from tests.support.wire import ask, connected, post, read_answer, request

CHAT = b'{"model":"m","stream":true,"messages":[{"role":"user","content":"hello"}]}'
SSE = [(b"content-type", b"text/event-stream")]


@asynccontextmanager
async def served(*flags: str) -> AsyncIterator[tuple[Process, str]]:
    """The process and the URL it said to be ready at."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "kvproxy", "serve", "--port", "0", *flags, stdout=PIPE, stderr=PIPE
    )
    assert process.stdout is not None
    try:
        line = (await process.stdout.readline()).decode()
        assert line.startswith("ready http://127.0.0.1:"), (line, await rest(process))
        yield process, line.split()[1]
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def rest(process: Process) -> str:
    return (await process.communicate())[1].decode()


async def refused(url: str) -> bool:
    try:
        async with connected(url):
            return False
    except ConnectionResetError:
        # Still in the kernel's queue when the listener closed: the next one is refused.
        return False
    except ConnectionRefusedError:
        return True


@asynccontextmanager
async def streaming(
    replica: RecordingReplica, url: str
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.Event]]:
    """A client inside an answer of three events, of which the last waits for the given event."""
    gate = asyncio.Event()
    body = b"data: 1\n\ndata: 2\n\ndata: 3\n\n"
    head, first, second, third, end = answer(body, headers=SSE, chunk=9, chunked=True)
    replica.script = lambda received: [head, first, second, gate, third, end]
    async with connected(url) as (reader, writer):
        writer.write(post(CHAT))
        await replica.next()
        yield reader, gate


@pytest.mark.parametrize("sign", [signal.SIGTERM, signal.SIGINT])
async def test_a_running_answer_ends_and_then_the_process(sign: signal.Signals) -> None:
    async with recording() as [replica], served("--replica", replica.url) as (process, url):
        async with streaming(replica, url) as (reader, gate):
            process.send_signal(sign)
            await eventually(lambda: refused(url))
            gate.set()
            got = await read_answer(reader)
        assert (got.complete, got.body[-9:]) == (True, b"data: 3\n\n")
        assert await process.wait() == 0
        assert "Traceback" not in await rest(process)


async def test_when_grace_is_over_a_stream_is_cut_with_an_error_event() -> None:
    async with (
        recording() as [replica],
        served("--replica", replica.url, "--server-grace-s", "0.1") as (process, url),
    ):
        async with streaming(replica, url) as (reader, _), connected(url) as (plain, writer):
            replica.script = lambda received: [Mark.HOLD]
            writer.write(post(CHAT.replace(b"true", b"false")))
            waiting = await replica.next()
            process.send_signal(signal.SIGTERM)
            got = await read_answer(reader)
            unstarted = await read_answer(plain)
        assert await process.wait() == 0
    *events, error, done, _ = got.body.split(b"\n\n")
    assert events == [b"data: 1", b"data: 2"]
    assert orjson.loads(error.removeprefix(b"data: "))["error"]["code"] == 503
    assert done == b"data: [DONE]"
    assert got.complete
    assert (unstarted.status, unstarted.header(b"retry-after")) == (503, b"1")
    assert orjson.loads(unstarted.body)["error"]["type"] == "ServiceUnavailableError"
    await waiting.gone.wait()


async def test_a_second_signal_ends_it_at_once() -> None:
    async with (
        recording() as [replica],
        served("--replica", replica.url) as (process, url),
        streaming(replica, url),
    ):
        process.send_signal(signal.SIGTERM)
        await eventually(lambda: refused(url))
        process.send_signal(signal.SIGTERM)
        assert await process.wait() == -signal.SIGTERM


async def test_idle_connections_do_not_delay_the_end() -> None:
    async with (
        recording() as [replica],
        served("--replica", replica.url) as (process, url),
        connected(url) as (reader, writer),
    ):
        writer.write(request("GET", "/healthz"))
        await read_answer(reader)
        process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(5):
            assert await process.wait() == 0


async def test_it_starts_before_its_replicas() -> None:
    async with recording() as [replica]:
        port = replica.port
        await replica.stop()
        flags = ["--replica", replica.url, "--probe-interval-s", "0.05"]
        async with served(*flags) as (process, url):
            got = await ask(url, post(CHAT))
            assert (got.status, got.header(b"x-kvproxy-error-code")) == (503, b"no_replica")
            await replica.start(port)

            async def answered() -> bool:
                return (await ask(url, post(CHAT))).status == 200

            await eventually(answered)
            process.send_signal(signal.SIGTERM)
            assert await process.wait() == 0


async def test_the_access_log_is_one_json_line_a_request() -> None:
    async with recording() as [replica], served("--replica", replica.url) as (process, url):
        await ask(url, post(CHAT, x_request_id="mine", authorization="Bearer sk-secret"))
        process.send_signal(signal.SIGTERM)
        lines = [orjson.loads(line) for line in (await rest(process)).splitlines()]
    [line] = [line for line in lines if line.get("request_id") == "mine"]
    assert (line["status"], line["outcome"], line["attempts"]) == (200, "ok", 1)
    assert "hello" not in str(lines)
    assert "sk-secret" not in str(lines)


@pytest.mark.parametrize(
    ("flags", "word"),
    [
        ([], "replica"),
        (["--replica", "nonsense"], "nonsense"),
        (["--replica", "http://a:1", "--replica", "http://a:1"], "http://a:1"),
        (["--replica", "http://a:1", "--policy", "fastest"], "fastest"),
        (["--replica", "http://a:1", "--prot", "1"], "--prot"),
        (["--config", "no-such-file.yaml"], "no-such-file.yaml"),
    ],
)
async def test_bad_settings_end_with_2_and_say_what_is_wrong(flags: list[str], word: str) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "kvproxy", "serve", *flags, stdout=PIPE, stderr=PIPE
    )
    out, err = await process.communicate()
    assert process.returncode == 2
    assert out == b""
    told = [line for line in err.decode().splitlines() if line.startswith("Error: ")]
    assert len(told) == 1
    assert word in told[0]


@pytest.mark.parametrize("workers", ["1", "2"])
async def test_clients_are_served_until_load_balancers_look_elsewhere(workers: str) -> None:
    flags = ("--server-drain-delay-s", "2", "--workers", workers)
    async with recording() as [replica], served("--replica", replica.url, *flags) as (process, url):
        assert (await ask(url, request("GET", "/readyz"))).status == 200
        process.send_signal(signal.SIGTERM)

        async def unready() -> bool:
            return (await ask(url, request("GET", "/readyz"))).status == 503

        await eventually(unready)
        got = await ask(url, request("GET", "/readyz"))
        assert (got.status, orjson.loads(got.body)["draining"]) == (503, True)
        assert (await ask(url, post(CHAT))).status == 200
        assert (await ask(url, request("GET", "/healthz"))).status == 200
        assert await asyncio.wait_for(process.wait(), 20.0) == 0
        assert await refused(url)
