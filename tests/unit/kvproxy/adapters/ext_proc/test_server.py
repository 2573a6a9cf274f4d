"""Streams that are not what they should be; tests/integration/test_picker.py has the rest."""

import grpc
import pytest
from envoy.service.ext_proc.v3.external_processor_pb2 import (
    HttpBody,
    HttpHeaders,
    ProcessingRequest,
)
from envoy.service.ext_proc.v3.external_processor_pb2_grpc import ExternalProcessorStub

from kvproxy.adapters.ext_proc.addresses import Addresses
from kvproxy.adapters.ext_proc.exchange import EnvoyExchange
from kvproxy.adapters.ext_proc.server import Picker, PickerLimits, PickerServer


async def broken(exchange: EnvoyExchange) -> None:
    await exchange.accept()
    raise ZeroDivisionError


async def test_our_own_failure_is_an_answer_and_a_stream_without_a_head_is_none(
    caplog: pytest.LogCaptureFixture,
) -> None:
    picker = Picker(broken, Addresses(list), PickerLimits(1000, {}))
    server = PickerServer(picker, lambda: True, 10_000)
    port = await server.start("127.0.0.1:0", None)
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        call = ExternalProcessorStub(channel).Process()
        await call.write(ProcessingRequest(request_headers=HttpHeaders(end_of_stream=True)))
        answer = await call.read()
        assert answer.immediate_response.status.code == 500
        await call.done_writing()
        call = ExternalProcessorStub(channel).Process()
        await call.write(ProcessingRequest(request_body=HttpBody(body=b"?")))
        await call.done_writing()
        assert await call.read() is grpc.aio.EOF
    await server.stop(0.0)
    assert "failed in kvproxy itself" in caplog.text
