import pytest

from kvproxy.core.dialects import errors_of
from kvproxy.core.refusal import SAID_BYTES_MAX, Said, is_stream, refusal

SSE = (b"Content-Type", b"text/event-stream; charset=utf-8")


@pytest.mark.parametrize(
    ("status", "headers", "expected"),
    [
        (200, [SSE], True),
        (200, [SSE, (b"content-encoding", b"identity")], True),
        (200, [SSE, (b"content-encoding", b"gzip")], False),
        (200, [(b"content-type", b"application/json")], False),
        (200, [], False),
        (400, [SSE], False),
    ],
)
def test_what_may_follow_a_comment(
    status: int, headers: list[tuple[bytes, bytes]], expected: bool
) -> None:
    assert is_stream(status, headers) is expected


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages", "/v1/responses"])
def test_an_engines_words_fit_into_one_event(path: str) -> None:
    said = b'{\n "error": {"message": "too\\nlong", "type": "BadRequestError", "code": 400}\n}\n'
    event = errors_of(path).stream_error(refusal("r0", 400, said))
    assert b'"too\\nlong"' in event
    assert b'"code":400' in event
    (data,) = [line for line in event.split(b"\n") if line.startswith(b"data: {")]
    assert data.endswith(b"}")


@pytest.mark.parametrize("said", [b"", b"<html>", b"[1]", b'{"detail": "x"}', b'{"error":"x"}'])
def test_what_clients_do_not_know_is_quoted(said: bytes) -> None:
    error = refusal("r0", 503, said)
    assert (error.code, error.body) == ("upstream_refused", b"")
    assert error.message == f"Replica r0 answered 503 and no event stream: {said.decode()}"
    assert len(refusal("r0", 503, b"x" * 10_000).message) < 400


def test_what_is_said_is_kept_in_part() -> None:
    said = Said()
    for _ in range(3):
        said.listen(b"x" * (SAID_BYTES_MAX // 2))
    said.listen(b"y")
    assert said.kept == b"x" * SAID_BYTES_MAX
