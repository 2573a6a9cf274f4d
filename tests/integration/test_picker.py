"""The endpoint picker as an Envoy would ask it: real gRPC, emulated replicas, both body modes."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import aiohttp
import grpc
import orjson
import pytest
from envoy.config.core.v3.base_pb2 import HeaderMap, HeaderValue
from envoy.extensions.filters.http.ext_proc.v3.processing_mode_pb2 import ProcessingMode
from envoy.service.ext_proc.v3.external_processor_pb2 import (
    HttpBody,
    HttpHeaders,
    ProcessingRequest,
    ProcessingResponse,
    ProtocolConfiguration,
)
from envoy.service.ext_proc.v3.external_processor_pb2_grpc import ExternalProcessorStub

from kvproxy.picker import PickerApp
from kvproxy.settings.model import Settings
from loadgen.emulator import EmulatorSettings, emulated
from tests.support.collector import collecting, named
from tests.support.proxies import eventually, settled

ENGINE = EmulatorSettings(model="m", hbm_tokens=500_000, prefill_tok_s=100_000, time_scale=10)
BUFFERED, STREAMED = ProcessingMode.BUFFERED, ProcessingMode.FULL_DUPLEX_STREAMED
DESTINATION = "x-gateway-destination-endpoint"


@asynccontextmanager
async def picker(
    count: int = 3, **sections: Any
) -> AsyncIterator[tuple[PickerApp, Any, list[str]]]:
    async with AsyncExitStack() as stack:
        urls = await stack.enter_async_context(emulated(ENGINE, n=count))
        tree = {"replicas": urls, "server": {"port": 0}, "log": {"access": False}}
        epp = {"port": 0} | sections.pop("epp", {})
        settings = Settings.model_validate(tree | {"epp": epp} | sections)
        app = PickerApp(settings)
        await app.start()
        stack.push_async_callback(app.stop)
        channel = await stack.enter_async_context(grpc.aio.insecure_channel(app.picker_address))
        yield app, channel, urls


def headers(pairs: dict[str, str]) -> HeaderMap:
    return HeaderMap(headers=[HeaderValue(key=k, raw_value=v.encode()) for k, v in pairs.items()])


class Envoy:
    """One HTTP request as Envoy's filter would carry it."""

    def __init__(self, channel: Any, mode: int, subset: list[str] | None = None) -> None:
        self.call = ExternalProcessorStub(channel).Process()
        self.mode, self.subset = mode, subset
        self.destination, self.own, self.body = "", dict[str, str](), b""
        self.refused: tuple[int, dict[str, Any]] | None = None

    async def read(self) -> ProcessingResponse:
        answer = await self.call.read()
        assert answer is not grpc.aio.EOF
        if answer.HasField("immediate_response"):
            refusal = answer.immediate_response
            self.refused = (refusal.status.code, orjson.loads(refusal.body))
        return answer

    async def ask(self, data: bytes, path: str = "/v1/chat/completions", **more: str) -> None:
        method = "POST" if data else "GET"
        pseudo = {":method": method, ":path": path, ":authority": "gateway"}
        pseudo |= {"content-type": "application/json"} if data else {}
        first = ProcessingRequest(
            request_headers=HttpHeaders(headers=headers(pseudo | more), end_of_stream=not data),
            protocol_config=ProtocolConfiguration(
                request_body_mode=self.mode,
                response_body_mode=ProcessingMode.STREAMED if self.mode == BUFFERED else STREAMED,
            ),
        )
        if self.subset is not None:
            hint = first.metadata_context.filter_metadata["envoy.lb.subset_hint"]
            hint.update({f"{DESTINATION}-subset": self.subset})
        await self.call.write(first)
        if data and self.mode == BUFFERED:
            assert (await self.read()).HasField("request_headers")
            body = HttpBody(body=data, end_of_stream=True)
            await self.call.write(ProcessingRequest(request_body=body))
            self._chosen(await self.read(), data)
            return
        for start in range(0, len(data), 50_000):
            piece = data[start : start + 50_000]
            body = HttpBody(body=piece, end_of_stream=start + 50_000 >= len(data))
            await self.call.write(ProcessingRequest(request_body=body))
        self._chosen(await self.read(), b"")
        while data and self.refused is None:
            streamed = (await self.read()).request_body.response.body_mutation.streamed_response
            self.body += streamed.body
            if streamed.end_of_stream:
                break

    def _chosen(self, answer: ProcessingResponse, data: bytes) -> None:
        if self.refused is not None:
            return
        response = getattr(answer, answer.WhichOneof("response")).response
        set_ = response.header_mutation.set_headers
        self.own = {each.header.key: each.header.raw_value.decode() for each in set_}
        self.destination = self.own[DESTINATION]
        told = answer.dynamic_metadata["envoy.lb"]
        assert dict(told.items())[DESTINATION] == self.destination
        mutated = response.body_mutation.body
        self.body = mutated or data

    async def answer(self, status: str, pieces: list[bytes]) -> dict[str, str]:
        """What the replica said; returns the headers that the picker adds for the client."""
        head = HttpHeaders(headers=headers({":status": status}))
        await self.call.write(ProcessingRequest(response_headers=head))
        mutation = (await self.read()).response_headers.response.header_mutation
        for index, piece in enumerate(pieces):
            body = HttpBody(body=piece, end_of_stream=index == len(pieces) - 1)
            await self.call.write(ProcessingRequest(response_body=body))
            common = (await self.read()).response_body.response
            if self.mode != BUFFERED:
                assert common.body_mutation.streamed_response.body == piece
        await self.call.done_writing()
        assert await self.call.read() is grpc.aio.EOF
        return {e.header.key: e.header.raw_value.decode() for e in mutation.set_headers}


def chat(*texts: str, **more: object) -> bytes:
    roles = ("user", "assistant")
    messages = [{"role": roles[i % 2], "content": text} for i, text in enumerate(texts)]
    return orjson.dumps({"model": "m", "messages": messages, **more})


async def forward(envoy: Envoy) -> tuple[str, list[bytes]]:
    """The engine's true answer to what the picker let through."""
    url = f"http://{envoy.destination}/v1/chat/completions"
    kind = {"content-type": "application/json"}
    async with (
        aiohttp.ClientSession() as client,
        client.post(url, data=envoy.body, headers=kind) as answer,
    ):
        body = await answer.read()
        half = len(body) // 2
        return str(answer.status), [body[:half], body[half:]]


@pytest.mark.parametrize("mode", [BUFFERED, STREAMED])
async def test_turns_stay_where_they_are_and_usage_is_learned(mode: int) -> None:
    async with picker() as (app, channel, _):
        texts, destinations = ["hello " * 30_000], []
        for turn in range(3):
            envoy = Envoy(channel, mode)
            data = chat(*texts, max_tokens=2)
            await envoy.ask(data, **{"x-session-id": "s", "x-request-id": f"r{turn}"})
            assert envoy.body == data
            own = await envoy.answer(*await forward(envoy))
            assert own["x-kvproxy-replica"] == envoy.destination
            destinations.append(envoy.destination)
            texts += ["well", "go on"]
        assert len(set(destinations)) == 1
        await settled(app)
        match, prompt_tokens = app.router.match(
            app.table.get(destinations[0]), *_known(app, chat(*texts))
        )
        assert match.tokens > 0.9 * prompt_tokens > 0


async def test_a_trace_goes_on_through_envoy() -> None:
    trace, span = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
    async with (
        collecting() as collector,
        picker(tracing={"endpoint": collector.url}) as (app, channel, _),
    ):
        envoy = Envoy(channel, BUFFERED)
        await envoy.ask(chat("hello", max_tokens=2), traceparent=f"00-{trace}-{span}-01")
        await envoy.answer(*await forward(envoy))
        await settled(app)
        spans = await collector.trace()
        (leg,) = named(spans, "forward")
        assert (spans[0].trace_id, spans[0].parent_id) == (trace, span)
        assert envoy.own["traceparent"] == f"00-{trace}-{leg.span_id}-01"
        assert leg.attributes["gen_ai.usage.output_tokens"] == 2


def _known(app: PickerApp, data: bytes) -> Any:
    from kvproxy.core.dialects import dialect_of
    from kvproxy.core.types import Identity

    dialect = dialect_of("POST", "/v1/chat/completions")
    assert dialect is not None
    turn = app.proxy.reader.read(dialect, "", data, "s")
    return Identity("", "m", "s"), turn.chain


async def test_a_subset_is_kept_to_and_an_empty_one_refused() -> None:
    async with picker() as (app, channel, urls):
        wanted = urls[2].removeprefix("http://")
        for number in range(6):
            envoy = Envoy(channel, STREAMED, [wanted])
            await envoy.ask(chat(f"{number}"))
            assert envoy.destination == wanted
            await envoy.answer("200", [b"{}"])
        envoy = Envoy(channel, STREAMED, ["10.0.0.1:1"])
        await envoy.ask(chat("hi"))
        assert envoy.refused is not None
        assert envoy.refused[0] == 503
        await settled(app)


async def test_errors_are_those_of_the_proxy() -> None:
    async with picker(server={"port": 0, "max_body_bytes": 1000}) as (app, channel, _):
        for data, status in [(b"{", 400), (chat("x" * 2000), 413)]:
            envoy = Envoy(channel, BUFFERED)
            await envoy.ask(data)
            assert envoy.refused is not None
            assert envoy.refused[0] == status
            assert "message" in envoy.refused[1]["error"]
        envoy = Envoy(channel, ProcessingMode.STREAMED)
        await envoy.ask(b"")
        assert envoy.destination or envoy.refused
        await settled(app)


async def test_what_has_no_body_goes_anywhere_and_spellings_are_spliced() -> None:
    tools = [
        {"type": "function", "function": {"name": "f", "parameters": parameters}}
        for parameters in ({"a": 1, "b": {"x": 1, "y": 2}}, {"b": {"y": 2, "x": 1}, "a": 1})
    ]
    async with picker() as (app, channel, _):
        envoy = Envoy(channel, STREAMED)
        await envoy.ask(b"", "/v1/models")
        assert envoy.destination
        await envoy.answer("200", [b"{}"])
        bodies = []
        for tool in tools:
            envoy = Envoy(channel, BUFFERED)
            await envoy.ask(chat("hi", tools=[tool]), **{"x-session-id": "s"})
            bodies.append(envoy.body)
            await envoy.answer("200", [b"{}"])
        assert bodies[0] == bodies[1]
        await settled(app)


async def test_an_envoy_that_hangs_up_leaves_nothing_behind() -> None:
    async with picker() as (app, channel, _):
        for mode in (BUFFERED, STREAMED):
            envoy = Envoy(channel, mode)
            await envoy.ask(chat("hi"))
            envoy.call.cancel()
            await settled(app)
            envoy = Envoy(channel, mode)
            await envoy.ask(chat("hi"))
            head = HttpHeaders(headers=headers({":status": "200"}))
            await envoy.call.write(ProcessingRequest(response_headers=head))
            await envoy.read()
            envoy.call.cancel()
            await settled(app)


async def test_fallbacks_are_named_and_objectives_decide_the_priority() -> None:
    async with picker(epp={"fallbacks": 1, "objectives": ["batch=7"]}) as (app, channel, urls):
        envoy = Envoy(channel, BUFFERED)
        await envoy.ask(chat("hi"), **{"x-gateway-inference-objective": "batch"})
        first, second = envoy.destination.split(",")
        assert first != second
        assert {f"http://{first}", f"http://{second}"} <= set(urls)
        await envoy.answer("200", [b"{}"])
        await settled(app)


async def test_health_follows_readiness() -> None:
    async with picker(1) as (app, channel, _):
        check = channel.unary_unary("/grpc.health.v1.Health/Check")
        assert await check(b"") == b"\x08\x01"
        assert await check(b"\x0a\x09readiness") == b"\x08\x01"
        app.draining = True
        assert await check(b"\x0a\x09readiness") == b"\x08\x02"
        assert await check(b"\x0a\x08liveness") == b"\x08\x01"
        with pytest.raises(grpc.aio.AioRpcError):
            await check(b"\x0a\x01x")
        app.draining = False
        await eventually(lambda: app.router.replicas[0].up)
