"""TLS from the client to kvproxy and on to the replicas, with certificates of the test's own."""

import asyncio
import os
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
import trustme
from aiohttp import web

from kvproxy.app import serving
from kvproxy.settings.model import Settings
from tests.support.certificates import write, write_ca
from tests.support.proxies import proxied, settled
from tests.support.recording import recording

CHAT = {"model": "m", "stream": True, "messages": [{"role": "user", "content": "hello"}]}
HOST = "127.0.0.1"


async def chat(url: str, tls: ssl.SSLContext | bool = True) -> tuple[int, bytes]:
    connector = aiohttp.TCPConnector(ssl=tls)
    async with (
        aiohttp.ClientSession(connector=connector) as client,
        client.post(url + "/v1/chat/completions", json=CHAT) as response,
    ):
        return response.status, await response.read()


def trusting(ca: trustme.CA, cert: trustme.LeafCert | None = None) -> ssl.SSLContext:
    context = ssl.create_default_context()
    ca.configure_trust(context)
    if cert is not None:
        cert.configure_cert(context)
    return context


async def test_clients_connect_with_tls_and_a_new_certificate_is_taken_over(
    tmp_path: Path,
) -> None:
    one, two, ca_of_others = trustme.CA(), trustme.CA(), trustme.CA()
    cert, key = write(one.issue_cert(HOST), tmp_path, "server")
    async with recording() as [replica]:
        tree = {"replicas": [replica.url], "log": {"access": False}}
        server = {"port": 0, "tls_cert": cert, "tls_key": key}
        settings = Settings.model_validate(tree | {"server": server})
        async with serving(settings, lambda: settings) as (app, url):
            assert url.startswith("https://")
            assert (await chat(url, trusting(one)))[0] == 200
            with pytest.raises(aiohttp.ClientConnectorCertificateError):
                await chat(url)
            write(two.issue_cert(HOST), tmp_path, "server")
            assert not (await app.reloader.reload()).refused
            with pytest.raises(aiohttp.ClientConnectorCertificateError):
                await chat(url, trusting(one))
            assert (await chat(url, trusting(two)))[0] == 200
            write(ca_of_others.issue_cert(HOST), tmp_path, "server")
            os.truncate(key, 10)
            assert (await app.reloader.reload()).refused
            assert (await chat(url, trusting(two)))[0] == 200
            await settled(app)


async def test_clients_may_have_to_show_a_certificate(tmp_path: Path) -> None:
    ca, other = trustme.CA(), trustme.CA()
    cert, key = write(ca.issue_cert(HOST), tmp_path, "server")
    server = {"tls_cert": cert, "tls_key": key, "tls_client_ca": write_ca(ca, tmp_path)}
    async with recording() as [replica], proxied([replica.url], server=server) as (_, url):
        assert (await chat(url, trusting(ca, ca.issue_cert("client"))))[0] == 200
        for shown in (None, other.issue_cert("client")):
            with pytest.raises((aiohttp.ClientError, OSError)):
                await chat(url, trusting(ca, shown))
    assert len(replica.received) == 1


async def test_what_is_no_tls_is_dropped(tmp_path: Path) -> None:
    cert, key = write(trustme.CA().issue_cert(HOST), tmp_path, "server")
    server = {"tls_cert": cert, "tls_key": key, "body_timeout_s": 0.2}
    async with recording() as [replica], proxied([replica.url], server=server) as (app, url):
        for said in (b"GET / HTTP/1.1\r\n\r\n", b"", b"\x16\x03\x01" + b"\0" * 50):
            port = int(url.rpartition(":")[2])
            reader, writer = await asyncio.open_connection(HOST, port)
            writer.write(said)
            async with asyncio.timeout(5):
                await reader.read()
            writer.close()
        assert not app.server.connections


@asynccontextmanager
async def engine(context: ssl.SSLContext) -> AsyncIterator[str]:
    """Pages and an answer over TLS."""

    async def answer(request: web.BaseRequest) -> web.Response:
        if request.path == "/v1/models":
            return web.json_response({"object": "list", "data": [{"id": "m"}]})
        return web.Response(text="data: [DONE]\n\n", content_type="text/event-stream")

    runner = web.ServerRunner(web.Server(answer))
    await runner.setup()
    await web.TCPSite(runner, HOST, 0, ssl_context=context).start()
    try:
        yield f"https://{HOST}:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


async def test_replicas_are_checked_and_shown_a_certificate(tmp_path: Path) -> None:
    ca = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert(HOST).configure_cert(context)
    ca.configure_trust(context)
    context.verify_mode = ssl.CERT_REQUIRED
    cert, key = write(ca.issue_cert("kvproxy"), tmp_path, "own")
    known = {"tls_ca": write_ca(ca, tmp_path), "tls_cert": cert, "tls_key": key}
    async with engine(context) as replica:
        async with proxied([replica], upstream=known) as (app, url):
            assert (await chat(url))[0] == 200
            await settled(app)
        for unknown in ({}, known | {"tls_ca": ""}):
            async with proxied([replica], upstream=unknown) as (app, url):
                assert (await chat(url))[0] == 503
        unchecked = known | {"tls_ca": "", "tls_verify": False}
        async with proxied([replica], upstream=unchecked) as (app, url):
            assert (await chat(url))[0] == 200
