"""The gRPC server that Envoy asks: external processing, and health as Kubernetes probes it."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass

import grpc
from envoy.service.ext_proc.v3.external_processor_pb2 import (
    ProcessingRequest,
    ProcessingResponse,
)
from envoy.service.ext_proc.v3.external_processor_pb2_grpc import (
    add_ExternalProcessorServicer_to_server,
)

from kvproxy.adapters.ext_proc.addresses import Addresses
from kvproxy.adapters.ext_proc.exchange import EnvoyExchange, refusal
from kvproxy.core.errors import ProxyError

log = logging.getLogger("kvproxy.epp")
_GRACE_S = 5.0
# grpc.health.v1 has two messages of one field each: not worth a package.
_SERVING, _NOT_SERVING = b"\x08\x01", b"\x08\x02"
_SERVICES = (b"", b"liveness", b"readiness", b"envoy.service.ext_proc.v3.ExternalProcessor")

Handle = Callable[[EnvoyExchange], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class PickerLimits:
    """`max_body_bytes` of a request; `objectives` are priorities by name, lower first; `divides`:
    see EnvoyExchange."""

    max_body_bytes: int
    objectives: Mapping[str, int]
    divides: bool = True


class Picker:
    """`handle` is the life of a request."""

    def __init__(self, handle: Handle, addresses: Addresses, limits: PickerLimits) -> None:
        self._handle = handle
        self._addresses = addresses
        self._limits = limits

    async def Process(  # noqa: N802
        self,
        request_iterator: AsyncIterator[ProcessingRequest],
        context: grpc.aio.ServicerContext[ProcessingRequest, ProcessingResponse],
    ) -> AsyncIterator[ProcessingResponse]:
        """One HTTP request of Envoy's; ends when both sides have said everything."""
        outbox: asyncio.Queue[ProcessingResponse | None] = asyncio.Queue()
        task = asyncio.create_task(self._serve(request_iterator, outbox.put_nowait))
        task.add_done_callback(lambda _: outbox.put_nowait(None))
        try:
            while (message := await outbox.get()) is not None:
                yield message
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _serve(
        self,
        requests: AsyncIterator[ProcessingRequest],
        say: Callable[[ProcessingResponse], None],
    ) -> None:
        exchange: EnvoyExchange | None = None
        handling: asyncio.Task[None] | None = None
        try:
            async for request in requests:
                if exchange is not None:
                    exchange.hear(request)
                elif request.HasField("request_headers"):
                    exchange = EnvoyExchange(
                        request,
                        say,
                        self._addresses,
                        limit=self._limits.max_body_bytes,
                        objectives=self._limits.objectives,
                        divides=self._limits.divides,
                    )
                    handling = asyncio.create_task(self._live(exchange))
            if exchange is not None and handling is not None:
                exchange.close()
                if exchange.head.done():
                    await handling
        except ProxyError as error:
            # Envoy is set up so that nothing can be decided.
            log.error("%s", error)
            say(refusal("", error))
        finally:
            if handling is not None:
                # Whoever closes the stream before an answer began has no use for one.
                handling.cancel()
                await asyncio.gather(handling, return_exceptions=True)

    async def _live(self, exchange: EnvoyExchange) -> None:
        try:
            await self._handle(exchange)
        except ProxyError as error:
            exchange.refuse(error)
        except Exception:
            log.exception("request %s failed in kvproxy itself", exchange.request_id)
            exchange.refuse(ProxyError("internal", "kvproxy failed; see its log."))


class PickerServer:
    """`ready` says whether requests can be placed."""

    def __init__(self, picker: Picker, ready: Callable[[], bool], max_message_bytes: int) -> None:
        options = [
            ("grpc.max_receive_message_length", max_message_bytes),
            ("grpc.max_send_message_length", max_message_bytes),
            ("grpc.so_reuseport", 0),
        ]
        self._server = grpc.aio.server(options=options)
        add_ExternalProcessorServicer_to_server(picker, self._server)
        self._ready = ready
        check = grpc.unary_unary_rpc_method_handler(self._check)
        service = grpc.method_handlers_generic_handler("grpc.health.v1.Health", {"Check": check})
        self._server.add_generic_rpc_handlers((service,))

    async def start(self, address: str, tls: tuple[bytes, bytes] | None) -> int:
        """The port; `tls` is key and certificate chain in PEM. Raises OSError."""
        try:
            if tls is None:
                port = int(self._server.add_insecure_port(address))
            else:
                secure = grpc.ssl_server_credentials([tls])
                port = int(self._server.add_secure_port(address, secure))
        except RuntimeError as error:
            raise OSError(0, str(error)) from error
        await self._server.start()
        return port

    async def stop(self, grace_s: float = _GRACE_S) -> None:
        """Streams that run may end within that time."""
        await self._server.stop(grace_s)

    async def _check(
        self, request: bytes, context: grpc.aio.ServicerContext[bytes, bytes]
    ) -> bytes:
        service = request[2:] if request[:1] == b"\x0a" else b""
        if service not in _SERVICES:
            await context.abort(grpc.StatusCode.NOT_FOUND, "no such service")
        live = service == b"liveness" or self._ready()
        return _SERVING if live else _NOT_SERVING
