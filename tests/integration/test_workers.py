"""`kvproxy serve --workers 2` as processes, of which each kind is killed while it serves."""

import asyncio
import os
import re
import signal
from contextlib import AsyncExitStack
from pathlib import Path

import orjson

from tests.integration.test_shutdown import refused, rest, served, streaming
from tests.support.proxies import eventually
from tests.support.recording import answer, recording
from tests.support.wire import ask, connected, post, read_answer, request

CHAT = b'{"model":"m","messages":[{"role":"user","content":"hello"}]}'


def children(pid: int) -> list[int]:
    """The placement process first, as long as none was restarted."""
    return sorted(map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()))


async def metric(url: str, name: str) -> float:
    try:
        page = await ask(url, request("GET", "/metrics"))
    except (OSError, asyncio.IncompleteReadError):
        # Nobody listens, or who did was killed.
        return -1.0
    found = re.findall(rf"^{name}(?:\{{[^}}]*\}})? ([\d.e+]+)$", page.body.decode(), re.MULTILINE)
    return sum(map(float, found)) if page.status == 200 else -1.0


async def until(url: str, name: str, value: float) -> None:
    async def there() -> bool:
        return await metric(url, name) == value

    await eventually(there, 30.0)


async def chat(url: str) -> int:
    """Its status; a connection that a killed process had accepted is made anew, as clients do."""
    for _ in range(20):
        try:
            return (await ask(url, post(CHAT, session_id="s"))).status
        except (OSError, asyncio.IncompleteReadError):
            await asyncio.sleep(0.1)
    return 0


async def test_each_kind_of_process_may_die() -> None:
    async with (
        recording() as [replica],
        served("--workers", "2", "--replica", replica.url) as (process, url),
    ):
        placement, *workers = children(process.pid)
        assert len(workers) == 2
        await until(url, "kvproxy_workers", 2)
        assert [await chat(url) for _ in range(4)] == [200] * 4
        async with streaming(replica, url) as (reader, gate):
            await until(url, "kvproxy_claims", 1)
            # The stream's own process or the other one: either way all is released.
            for worker in workers:
                os.kill(worker, signal.SIGKILL)
            gate.set()
            await reader.read()
        await eventually(lambda: len(children(process.pid)) == 3, 30.0)
        await until(url, "kvproxy_workers", 2)
        await until(url, "kvproxy_claims", 0)
        await until(url, "kvproxy_replica_in_flight", 0)
        replica.script = lambda received: answer()
        assert [await chat(url) for _ in range(4)] == [200] * 4
        counted = await metric(url, "kvproxy_requests_total")
        assert counted >= 8
        os.kill(placement, signal.SIGKILL)
        assert [await chat(url) for _ in range(8)] == [200] * 8
        await until(url, "kvproxy_workers", 2)
        assert await metric(url, "kvproxy_requests_total") >= counted + 8
        process.send_signal(signal.SIGTERM)
        assert await process.wait() == 0
        told = [orjson.loads(line)["message"] for line in (await rest(process)).splitlines()]
    assert any("placement ended with -9" in line for line in told)
    assert not any("Traceback" in line for line in told)


async def test_a_stream_outlives_the_placement_process_and_is_held_by_the_next() -> None:
    async with (
        recording() as [replica],
        served("--workers", "2", "--replica", replica.url) as (process, url),
        streaming(replica, url) as (reader, gate),
    ):
        placement, *_ = children(process.pid)
        await until(url, "kvproxy_claims", 1)
        os.kill(placement, signal.SIGKILL)
        await eventually(lambda: len(children(process.pid)) == 3, 30.0)
        await until(url, "kvproxy_workers", 2)
        await until(url, "kvproxy_replica_in_flight", 1)
        gate.set()
        got = await read_answer(reader)
        assert (got.complete, got.body[-9:]) == (True, b"data: 3\n\n")
        await until(url, "kvproxy_claims", 0)


async def test_a_running_answer_ends_and_then_all_processes() -> None:
    async with (
        recording() as [replica],
        served("--workers", "2", "--replica", replica.url) as (process, url),
    ):
        pids = children(process.pid)
        async with streaming(replica, url) as (reader, gate):
            process.send_signal(signal.SIGTERM)
            await eventually(lambda: refused(url), 30.0)
            gate.set()
            got = await read_answer(reader)
        assert (got.complete, got.body[-9:]) == (True, b"data: 3\n\n")
        assert await process.wait() == 0
        assert not any(map(exists, pids))


async def test_settings_read_again_reach_every_process(tmp_path: Path) -> None:
    async with recording(2) as replicas:
        file = tmp_path / "kvproxy.yaml"
        file.write_text(f"replicas: [{replicas[0].url}]\n")
        async with served("--workers", "2", "--config", str(file)) as (process, url):
            assert await chat(url) == 200
            file.write_text(f"replicas: [{replicas[1].url}]\n")
            process.send_signal(signal.SIGHUP)

            async def moved() -> bool:
                # The only replica was changed: until the new one is probed nobody is ready.
                return await chat(url) == 200 and len(replicas[1].received) >= 4

            await eventually(moved, 30.0)
            pid, *_ = children(process.pid)
            os.kill(pid, signal.SIGKILL)
            # The next placement process begins with what was read last.
            await eventually(lambda: pid not in children(process.pid), 30.0)
            await until(url, "kvproxy_workers", 2)
            before = len(replicas[0].received)
            assert [await chat(url) for _ in range(4)] == [200] * 4
            assert len(replicas[0].received) == before
            listing = await ask(url, request("GET", "/admin/replicas"))
            assert [row["url"] for row in orjson.loads(listing.body)["replicas"]] == [
                replicas[1].url
            ]
            refusal = await ask(url, post(b"{}", "/admin/reload"))
            assert refusal.status == 403


async def test_both_workers_serve() -> None:
    async with (
        recording() as [replica],
        served("--workers", "2", "--replica", replica.url) as (process, url),
        AsyncExitStack() as clients,
    ):
        _, *workers = children(process.pid)
        for _ in range(64):
            reader, writer = await clients.enter_async_context(connected(url))
            writer.write(request("GET", "/healthz"))
            assert (await read_answer(reader)).status == 200
            if all(connections(pid) for pid in workers):
                break
        assert all(connections(pid) for pid in workers)


def exists(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def connections(pid: int) -> int:
    """Established ones of a process, by its sockets."""
    links = {os.readlink(path) for path in Path(f"/proc/{pid}/fd").iterdir() if path.is_symlink()}
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return sum(row[3] == "01" and f"socket:[{row[9]}]" in links for row in rows)
