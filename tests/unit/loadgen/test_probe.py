import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from loadgen.probe import EndpointError, Probe, Pulse
from loadgen.text import WordPool
from loadgen.wire import Endpoint, Wire


@contextlib.asynccontextmanager
async def probing(*routes: web.RouteDef) -> AsyncIterator[Probe]:
    app = web.Application()
    app.router.add_routes(routes)
    server = TestServer(app)
    await server.start_server()
    wire = Wire(Endpoint(str(server.make_url(""))))
    try:
        yield Probe(wire, {})
    finally:
        wire.close()
        await server.close()


def saying(path: str, value: object, status: int = 200) -> web.RouteDef:
    async def handle(_: web.Request) -> web.Response:
        return web.json_response(value, status=status)

    return web.get(path, handle)


async def test_model_and_version() -> None:
    models = saying("/v1/models", {"data": [{"id": "m1"}, {"id": "m2"}]})
    async with probing(models, saying("/version", {"version": "0.32"})) as probe:
        assert await probe.model() == "m1"
        assert await probe.version() == "0.32"


@pytest.mark.parametrize("value", [{}, {"data": []}, {"data": [3]}, {"data": [{"id": None}]}, []])
async def test_models_that_name_none(value: object) -> None:
    async with probing(saying("/v1/models", value)) as probe:
        with pytest.raises(EndpointError, match="--model"):
            await probe.model()


async def test_what_an_endpoint_does_not_have_is_none() -> None:
    async with probing() as probe:
        assert await probe.version() is None
        assert await probe.template("m", WordPool(1)) is None


async def test_nobody_there(unused_tcp_port: int) -> None:
    probe = Probe(Wire(Endpoint(f"http://127.0.0.1:{unused_tcp_port}")), {})
    with pytest.raises(EndpointError, match="/v1/models"):
        await probe.model()


def test_the_pulse_of_a_long_run_is_of_all_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("loadgen.probe.PULSES_MAX", 4)
    pulse = Pulse()
    for second in range(4):
        pulse.note(float(second))
    assert pulse.lags_s == [0.0, 2.0]  # from now on only every other beat is taken
    for second in (4, 6):
        pulse.note(float(second))
    assert pulse.lags_s == [0.0, 4.0]


async def test_the_pulse_goes_on_and_slows_down(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("loadgen.probe.PULSES_MAX", 2)
    monkeypatch.setattr("loadgen.probe.PULSE_S", 0.001)
    pulse = Pulse()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(pulse.beat(), 0.2)
    assert len(pulse.lags_s) == 1
    assert pulse.lags_s[0] >= 0
    assert pulse._pulse_s > 0.001
