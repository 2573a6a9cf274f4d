"""Envoy's messages: what is read from them, and those that are sent.

Gateway API Inference Extension, endpoint picker protocol 1.0: the destination goes into a header
and into dynamic metadata, and both say the same.
"""

from collections.abc import Iterable, Iterator, Sequence

from envoy.config.core.v3.base_pb2 import HeaderMap, HeaderValue, HeaderValueOption
from envoy.service.ext_proc.v3.external_processor_pb2 import (
    BodyMutation,
    BodyResponse,
    CommonResponse,
    HeaderMutation,
    HeadersResponse,
    ImmediateResponse,
    ProcessingRequest,
    ProcessingResponse,
    StreamedBodyResponse,
)
from envoy.type.v3.http_status_pb2 import HttpStatus
from google.protobuf.duration_pb2 import Duration
from google.protobuf.struct_pb2 import Struct

DESTINATION = "x-gateway-destination-endpoint"
FAIRNESS = ("x-gateway-inference-fairness-id", "x-llm-d-inference-fairness-id")
OBJECTIVE = ("x-gateway-inference-objective", "x-llm-d-inference-objective")
_SUBSET_NAMESPACE, _SUBSET = "envoy.lb.subset_hint", "x-gateway-destination-endpoint-subset"
_LB = "envoy.lb"
# Envoy takes no larger pieces of a body that is streamed back.
_PIECE_BYTES = 62_000

Pairs = Iterable[tuple[str, bytes]]


def headers_of(headers: HeaderMap) -> list[tuple[str, bytes]]:
    """Names in lower case, as Envoy has them; pseudo headers too."""
    return [(each.key, each.raw_value or each.value.encode()) for each in headers.headers]


def subset_of(request: ProcessingRequest) -> frozenset[str] | None:
    """Endpoints that the gateway permits, None: all."""
    hint = request.metadata_context.filter_metadata
    if _SUBSET_NAMESPACE not in hint or _SUBSET not in hint[_SUBSET_NAMESPACE].fields:
        return None
    value = hint[_SUBSET_NAMESPACE].fields[_SUBSET]
    if value.HasField("list_value"):
        texts = [each.string_value for each in value.list_value.values]
    else:
        texts = value.string_value.split(",")
    return frozenset(text.strip() for text in texts if text.strip())


def _mutation(headers: Pairs) -> HeaderMutation:
    options = [
        HeaderValueOption(
            header=HeaderValue(key=name, raw_value=value),
            append_action=HeaderValueOption.OVERWRITE_IF_EXISTS_OR_ADD,
        )
        for name, value in headers
    ]
    return HeaderMutation(set_headers=options)


def _destined(response: ProcessingResponse, endpoints: Sequence[str]) -> ProcessingResponse:
    told = Struct()
    told.update({_LB: {DESTINATION: ",".join(endpoints)}})
    response.dynamic_metadata.CopyFrom(told)
    return response


def go_on_headers() -> ProcessingResponse:
    return ProcessingResponse(request_headers=HeadersResponse(response=CommonResponse()))


def _chosen(endpoints: Sequence[str], headers: Pairs) -> CommonResponse:
    named = [(DESTINATION, ",".join(endpoints).encode()), *headers]
    return CommonResponse(header_mutation=_mutation(named), clear_route_cache=True)


def chosen_by_headers(endpoints: Sequence[str], headers: Pairs) -> ProcessingResponse:
    response = HeadersResponse(response=_chosen(endpoints, headers))
    return _destined(ProcessingResponse(request_headers=response), endpoints)


def chosen_by_body(
    endpoints: Sequence[str], headers: Pairs, body: bytes | None
) -> ProcessingResponse:
    """`body` None: as it came."""
    common = _chosen(endpoints, headers)
    if body is not None:
        common.body_mutation.body = body
    return _destined(ProcessingResponse(request_body=BodyResponse(response=common)), endpoints)


def streamed_body(body: bytes) -> Iterator[ProcessingResponse]:
    for start in range(0, max(1, len(body)), _PIECE_BYTES):
        last = start + _PIECE_BYTES >= len(body)
        piece = _streamed(body[start : start + _PIECE_BYTES], last=last)
        yield ProcessingResponse(request_body=piece)


def answer_headers(headers: Pairs) -> ProcessingResponse:
    common = CommonResponse(header_mutation=_mutation(headers))
    return ProcessingResponse(response_headers=HeadersResponse(response=common))


def answer_piece(body: bytes, *, last: bool, echo: bool) -> ProcessingResponse:
    """Passes a piece of an answer on; `echo` where Envoy has given it away."""
    piece = _streamed(body, last=last) if echo else BodyResponse(response=CommonResponse())
    return ProcessingResponse(response_body=piece)


def _streamed(body: bytes, *, last: bool) -> BodyResponse:
    streamed = StreamedBodyResponse(body=body, end_of_stream=last)
    mutation = BodyMutation(streamed_response=streamed)
    return BodyResponse(response=CommonResponse(body_mutation=mutation))


def patience(seconds: float) -> ProcessingResponse:
    """Envoy is asked to wait so long for the next message."""
    return ProcessingResponse(override_message_timeout=Duration(seconds=int(seconds)))


def refused(status: int, body: bytes, headers: Pairs) -> ProcessingResponse:
    return ProcessingResponse(
        immediate_response=ImmediateResponse(
            status=HttpStatus(code=status),
            headers=_mutation(headers),
            body=body,
        )
    )
