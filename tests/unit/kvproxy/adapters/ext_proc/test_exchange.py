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

from kvproxy.adapters.ext_proc.addresses import Addresses
from kvproxy.adapters.ext_proc.exchange import EnvoyExchange
from kvproxy.core.errors import ProxyError


def exchange(mode: int, said: list[ProcessingResponse], **header: str) -> EnvoyExchange:
    named = {":method": "POST", ":path": "/v1/x?a=1"} | {
        name.replace("_", "-"): value for name, value in header.items()
    }
    pairs = [HeaderValue(key=name, value=value) for name, value in named.items()]
    request = ProcessingRequest(
        request_headers=HttpHeaders(headers=HeaderMap(headers=pairs)),
        protocol_config=ProtocolConfiguration(request_body_mode=mode),  # type: ignore[arg-type]
    )
    return EnvoyExchange(
        request,
        said.append,
        Addresses(list),
        limit=10,
        objectives={"batch": 7},
        divides=True,
    )


def body(data: bytes, *, last: bool) -> ProcessingRequest:
    return ProcessingRequest(request_body=HttpBody(body=data, end_of_stream=last))


async def test_a_body_comes_in_pieces() -> None:
    each = exchange(ProcessingMode.FULL_DUPLEX_STREAMED, [])
    each.hear(body(b"ab", last=False))
    each.hear(body(b"cd", last=True))
    assert await each.accept() == b"abcd"
    assert (each.method, each.path, each.target) == ("POST", "/v1/x", "/v1/x?a=1")


async def test_one_that_is_too_large_is_refused_once_and_not_kept() -> None:
    each = exchange(ProcessingMode.FULL_DUPLEX_STREAMED, [])
    for _ in range(4):
        each.hear(body(b"12345678", last=False))
    with pytest.raises(ProxyError, match="max_body_bytes"):
        await each.accept()
    assert each._parts == []


async def test_a_buffering_envoy_is_told_to_go_on() -> None:
    said: list[ProcessingResponse] = []
    exchange(ProcessingMode.BUFFERED, said)
    assert [each.WhichOneof("response") for each in said] == ["request_headers"]


async def test_a_mode_that_cannot_work_says_which_can() -> None:
    with pytest.raises(ProxyError, match="FULL_DUPLEX_STREAMED"):
        exchange(ProcessingMode.STREAMED, [])
    prompt = {":path": "/v1/messages"}
    with pytest.raises(ProxyError, match="has request_body_mode NONE"):
        exchange(ProcessingMode.NONE, [], **prompt)
    assert await exchange(ProcessingMode.NONE, []).accept() == b""


async def test_a_refusal_says_whose_it_is_and_what_was_missing() -> None:
    said: list[ProcessingResponse] = []
    each = exchange(ProcessingMode.FULL_DUPLEX_STREAMED, said, x_request_id="mine")
    each.refuse(ProxyError("unauthorized", "no"))
    [refused] = said
    headers = refused.immediate_response.headers.set_headers
    named = {each.header.key: each.header.raw_value for each in headers}
    assert (named["x-request-id"], named["www-authenticate"]) == (b"mine", b"Bearer")


async def test_the_gateways_word_on_priority_and_fairness_counts() -> None:
    each = exchange(
        ProcessingMode.BUFFERED,
        [],
        x_gateway_inference_objective="batch",
        x_gateway_inference_fairness_id="team",
        x_vllm_priority="-5",
        authorization="Bearer k",
    )
    assert each.header["x-vllm-priority"] == "7"
    assert each.header["authorization"] == "Bearer k\0team"
