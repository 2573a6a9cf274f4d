from envoy.config.core.v3.base_pb2 import HeaderMap, HeaderValue
from envoy.service.ext_proc.v3.external_processor_pb2 import ProcessingRequest

from kvproxy.adapters.ext_proc import messages


def test_headers_come_as_bytes_or_as_text() -> None:
    given = [HeaderValue(key="a", value="1"), HeaderValue(key="b", raw_value=b"\xff")]
    assert messages.headers_of(HeaderMap(headers=given)) == [("a", b"1"), ("b", b"\xff")]


def test_subsets_are_lists_or_texts_with_commas() -> None:
    request = ProcessingRequest()
    assert messages.subset_of(request) is None
    hint = request.metadata_context.filter_metadata["envoy.lb.subset_hint"]
    name = "x-gateway-destination-endpoint-subset"
    hint.update({name: ["10.0.0.1:1", "10.0.0.2:1"]})
    assert messages.subset_of(request) == {"10.0.0.1:1", "10.0.0.2:1"}
    hint.update({name: "10.0.0.1:1, 10.0.0.3:1"})
    assert messages.subset_of(request) == {"10.0.0.1:1", "10.0.0.3:1"}
    hint.update({name: ""})
    assert messages.subset_of(request) == frozenset()


def test_header_and_metadata_name_the_same_destination() -> None:
    for response in (
        messages.chosen_by_headers(["10.0.0.1:1", "10.0.0.2:1"], []),
        messages.chosen_by_body(["10.0.0.1:1", "10.0.0.2:1"], [], None),
    ):
        common = getattr(response, response.WhichOneof("response")).response
        [header] = common.header_mutation.set_headers
        told = dict(response.dynamic_metadata["envoy.lb"].items())
        assert told == {header.header.key: header.header.raw_value.decode()}


def test_bodies_are_streamed_in_pieces_that_envoy_takes() -> None:
    for size in (0, 1, 62_000, 62_001, 400_000):
        data = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
        pieces = [
            each.request_body.response.body_mutation.streamed_response
            for each in messages.streamed_body(data)
        ]
        assert b"".join(piece.body for piece in pieces) == data
        assert [piece.end_of_stream for piece in pieces] == [False] * (len(pieces) - 1) + [True]
        assert all(len(piece.body) <= 62_000 for piece in pieces)


def test_refusals_carry_status_body_and_headers() -> None:
    refusal = messages.refused(429, b"{}", [("retry-after", b"1")]).immediate_response
    assert (refusal.status.code, refusal.body) == (429, b"{}")
    assert refusal.headers.set_headers[0].header.raw_value == b"1"
