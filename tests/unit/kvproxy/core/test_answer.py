"""Usage and first tokens in answers cut at any border."""

import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvproxy.core.answer import AnswerWatch
from kvproxy.core.types import Usage

TEXTS = st.text(max_size=40) | st.just('{"usage": {"prompt_tokens": 7, "completion_tokens": 8}}')
USAGES = st.builds(
    Usage, st.integers(0, 10**7), st.integers(0, 10**5), st.none() | st.integers(0, 10**7)
)


def usage_json(usage: Usage) -> dict[str, object]:
    found: dict[str, object] = {
        "prompt_tokens": usage.prompt_tokens,
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
        "completion_tokens": usage.completion_tokens,
    }
    if usage.cached_tokens is not None:
        found["prompt_tokens_details"] = {"cached_tokens": usage.cached_tokens}
    return found


def plain_body(text: str, usage: Usage) -> bytes:
    message = {"role": "assistant", "content": text}
    body = {"id": "chatcmpl-1", "choices": [{"index": 0, "message": message}]}
    return json.dumps({**body, "usage": usage_json(usage), "prompt_logprobs": None}).encode()


def stream_body(texts: list[str], usage: Usage | None) -> bytes:
    events = [{"choices": [{"index": 0, "delta": {"content": text}}]} for text in texts]
    lines = [b"data: " + json.dumps(event).encode() for event in events]
    if usage is not None:
        lines.append(b"data: " + json.dumps({"choices": [], "usage": usage_json(usage)}).encode())
    return b"\n\n".join([*lines, b"data: [DONE]\n\n"])


def watched(body: bytes, borders: list[int]) -> AnswerWatch:
    watch = AnswerWatch()
    edges = [0, *sorted(border % (len(body) + 1) for border in borders), len(body)]
    for start, end in itertools.pairwise(edges):
        if end > start:
            watch.feed(body[start:end])
    return watch


BORDERS = st.lists(st.integers(0, 10**6), max_size=12)


@given(st.lists(TEXTS, max_size=5), USAGES, BORDERS)
def test_usage_of_a_stream(texts: list[str], usage: Usage, borders: list[int]) -> None:
    body = stream_body(texts, usage)
    watch = watched(body, borders)
    assert watch.usage() == usage


@given(TEXTS, USAGES, BORDERS)
def test_usage_of_a_plain_body(text: str, usage: Usage, borders: list[int]) -> None:
    assert watched(plain_body(text, usage), borders).usage() == usage


@given(st.lists(TEXTS, min_size=1, max_size=5), BORDERS)
def test_text_is_never_taken_for_usage(texts: list[str], borders: list[int]) -> None:
    assert watched(stream_body(texts, None), borders).usage() is None


@given(st.lists(st.text(min_size=500, max_size=2000), max_size=8), USAGES)
def test_long_answers_keep_their_end(texts: list[str], usage: Usage) -> None:
    body = stream_body(texts, usage)
    watch = watched(body, list(range(0, len(body), 777)))
    assert watch.usage() == usage
    assert watch._tail_bytes <= 8192 + 777 + 1


def test_a_token_that_spells_usage_behind_the_figures() -> None:
    """Log probabilities of the prompt follow the usage object and hold tokens as plain strings."""
    body = {"usage": usage_json(Usage(5, 6, 2)), "prompt_logprobs": [{"7": {"token": "usage"}}]}
    assert watched(json.dumps(body).encode(), []).usage() == Usage(5, 6, 2)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b'{"error":{"message":"no usage here"}}',
        b'{"usage":null}',
        b'data: {"choices":[],"usage":null}\n\n',
        b'{"usage":{"total_tokens":5}}',
    ],
)
def test_answers_without_usage(body: bytes) -> None:
    assert watched(body, []).usage() is None


def test_missing_figures_are_zero_or_unknown() -> None:
    assert watched(b'{"usage": {"prompt_tokens" : 9}}', []).usage() == Usage(9, 0, None)


def test_details_that_are_null() -> None:
    body = b'{"usage":{"prompt_tokens":9,"completion_tokens":1,"prompt_tokens_details":null}}'
    assert watched(body, []).usage() == Usage(9, 1, None)


def test_the_first_token_comes_once() -> None:
    watch = AnswerWatch()
    assert [watch.feed(chunk) for chunk in (b"data: {}\n\n", b"data: {}\n\n")] == [True, False]


def test_keep_alive_comments_are_no_token() -> None:
    watch = AnswerWatch()
    assert not watch.feed(b": keep-alive\n\n")
    assert not watch.feed(b":\n\n: keep-alive\n\n")
    assert not watch.started
    assert watch.feed(b": keep-alive\n\ndata: {}\n\n")
    assert watch.started


@given(st.lists(st.sampled_from([": keep-alive\n\n", ":\n", ": data: {}\r\n\r\n"])), BORDERS)
def test_a_comment_cut_anywhere_is_no_token(comments: list[str], borders: list[int]) -> None:
    quiet = "".join(comments).encode()
    watch = watched(quiet, borders)
    assert not watch.started
    assert watch.feed(b"data: {}\n\n")
