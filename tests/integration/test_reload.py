"""Settings read again by a running process, and the admin API on a listener of its own."""

import asyncio
import signal
import sys
from asyncio.subprocess import PIPE, Process
from hashlib import sha256
from pathlib import Path
from typing import Any

import orjson
import yaml

from tests.integration.test_shutdown import CHAT, served, streaming
from tests.support.proxies import eventually, proxied
from tests.support.recording import recording
from tests.support.wire import ask, post, request

JSON = [("content-type", "application/json")]


def write(file: Path, **tree: Any) -> None:
    file.write_text(yaml.safe_dump({"probe": {"interval_s": 0.02}, **tree}))


async def ready(url: str) -> dict[str, str]:
    got = await ask(url, request("GET", "/readyz"))
    found: dict[str, str] = orjson.loads(got.body)["replicas"]
    return found


async def said(process: Process, text: str) -> None:
    """Returns when the log has a line with `text`."""
    assert process.stderr is not None
    async with asyncio.timeout(10):
        while text not in (await process.stderr.readline()).decode():
            pass


async def test_hangup_moves_replicas_and_drops_no_stream(tmp_path: Path) -> None:
    file = tmp_path / "kvproxy.yaml"
    async with recording(2) as (old, new):
        write(file, replicas=[old.url])
        async with served("--config", str(file)) as (process, url):
            async with streaming(old, url) as (reader, gate):
                write(file, replicas=[new.url], server={"grace_s": 1})
                process.send_signal(signal.SIGHUP)
                await said(process, "server.grace_s")
                await eventually(lambda: is_ready(url, new.url))
                got = await ask(url, post(CHAT))
                assert got.header(b"x-kvproxy-replica") == new.url[7:].encode()
                assert (await ready(url))[old.url[7:]] == "draining"
                gate.set()
                stream = await read(reader)
            assert stream.endswith(b"data: 3\n\n\r\n0\r\n\r\n")
            await eventually(lambda: is_gone(url, old.url))


async def is_ready(url: str, replica: str) -> bool:
    return (await ready(url)).get(replica[7:]) == "ready"


async def is_gone(url: str, replica: str) -> bool:
    return replica[7:] not in await ready(url)


async def read(reader: asyncio.StreamReader) -> bytes:
    return await reader.readuntil(b"0\r\n\r\n")


async def test_a_file_with_a_mistake_changes_nothing_and_says_where(tmp_path: Path) -> None:
    file = tmp_path / "kvproxy.yaml"
    async with recording(2) as (old, new):
        write(file, replicas=[old.url])
        async with served("--config", str(file)) as (process, url):
            file.write_text(f"replicas: [{new.url}]\nlog: {{levle: debug}}\n")
            process.send_signal(signal.SIGHUP)
            await said(process, "kvproxy.yaml:2: log.levle: unknown key; did you mean log.level?")
            assert list(await ready(url)) == [old.url[7:]]
            assert (await ask(url, post(CHAT))).status == 200


async def test_keys_are_taken_over(tmp_path: Path) -> None:
    file = tmp_path / "kvproxy.yaml"
    async with recording() as [replica]:
        write(file, replicas=[replica.url])
        async with served("--config", str(file)) as (process, url):
            assert (await ask(url, post(CHAT))).status == 200
            keys = [{"name": "a", "sha256": sha256(b"a").hexdigest()}]
            write(file, replicas=[replica.url], access={"keys": keys})
            process.send_signal(signal.SIGHUP)
            await said(process, "access.keys")
            assert (await ask(url, post(CHAT))).status == 401
            assert (await ask(url, post(CHAT, x_api_key="a"))).status == 200
            assert all(name != b"x-api-key" for name, _ in replica.received[-1].headers)


async def test_operators_have_a_listener_of_their_own() -> None:
    async with recording(2) as (one, two):
        admin = {"listen": "127.0.0.1:0"}
        async with proxied([one.url], admin=admin, probe={"interval_s": 0.02}) as (app, url):
            assert app.admin_server is not None
            assert app.admin_server.url is not None
            operators = app.admin_server.url
            for path in ("/admin/replicas", "/admin/regime"):
                assert (await ask(operators, request("GET", path))).status == 200
                assert (await ask(url, request("GET", path))).status == 404
            assert (await ask(operators, request("GET", "/metrics"))).status == 200
            add = request("POST", "/admin/replicas", JSON, orjson.dumps({"url": two.url}))
            assert (await ask(url, add)).status == 404
            assert (await ask(operators, add)).status == 201
            await eventually(lambda: is_ready(url, two.url))
            drain = request("POST", f"/admin/replicas/{one.url[7:]}/drain", JSON, b"")
            assert orjson.loads((await ask(operators, drain)).body)["health"] == "draining"
            got = await ask(url, post(CHAT))
            assert got.header(b"x-kvproxy-replica") == two.url[7:].encode()
            assert (await ask(operators, post(CHAT))).status == 404
            reload = request("POST", "/admin/reload", JSON, b"")
            assert (await ask(operators, reload)).status == 409
        assert one.received == []


async def test_a_process_that_cannot_have_its_admin_address_says_so() -> None:
    async with recording() as [replica]:
        port = replica.port
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "kvproxy", "serve", "--port", "0", "--replica", replica.url),
            *("--admin-listen", f"127.0.0.1:{port}"),
            stdout=PIPE,
            stderr=PIPE,
        )
        _, errors = await process.communicate()
        assert process.returncode == 1
        assert f"cannot listen on 127.0.0.1:{port}" in errors.decode()
