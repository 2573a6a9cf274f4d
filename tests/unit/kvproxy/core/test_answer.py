"""Usage and first tokens in answers cut at any border."""

import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvproxy.core.answer import PILED_BYTES, PILED_MAX, AnswerWatch
from kvproxy.core.echo import Tap, TapBudget
from kvproxy.core.types import Usage
from tests.support.shared import shared_path

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


def test_usage_of_captured_answers() -> None:
    """Streams and bodies of every dialect, as a real engine wrote them."""
    folder = shared_path("vllm-samples", "http")
    reported = {
        "anthropic_1st": Usage(1691, 8, 1664, 0),
        "anthropic_stream": Usage(1691, 8, 1664, 0),
        "anthropic_count_tokens": None,
        "chat_2nd": Usage(1691, 8, 1664, 0),
        "chat_stream_usage": Usage(1691, 8, 1664, 0),
        "responses_2nd": Usage(1462, 8, 1440, 0),
        "responses_stream": Usage(1462, 8, 1440, 0),
    }
    found = {}
    for name in reported:
        watch = AnswerWatch()
        watch.feed((folder / f"{name}.body").read_bytes())
        found[name] = watch.usage()
    assert found == reported


def test_the_first_usage_of_a_message_stream_does_not_count() -> None:
    """message_start has the whole prompt as input_tokens, the end has it split."""
    start = b'data: {"message":{"usage":{"input_tokens":100,"output_tokens":0}}}'
    split = b'"cache_read_input_tokens":64,"cache_creation_input_tokens":32'
    end = b'data: {"usage":{"input_tokens":4,"output_tokens":5,%b}}' % split
    watch = AnswerWatch()
    watch.feed(b"event: message_start\n" + start + b"\n\nevent: message_delta\n" + end + b"\n\n")
    assert watch.usage() == Usage(100, 5, 64, 32)
    whole = AnswerWatch()
    whole.feed(b'{"usage":{"input_tokens":100,"output_tokens":5}}')
    assert whole.usage() == Usage(100, 5, None)


def test_an_old_engines_last_usage_says_nothing_of_the_prompt() -> None:
    watch = AnswerWatch()
    start = b'{"message":{"usage":{"input_tokens":100,"output_tokens":0}}}'
    watch.feed(b"event: message_start\ndata: " + start + b"\n\n")
    for _ in range(1000):
        watch.feed(b'event: content_block_delta\ndata: {"type":"content_block_delta"}\n\n')
    assert watch.usage() is None
    watch.feed(b'event: message_delta\ndata: {"usage":{"output_tokens":5}}\n\n')
    assert watch.usage() == Usage(100, 5, None)


@given(st.lists(st.integers(1, 30), max_size=40))
def test_a_preamble_is_no_first_token(sizes: list[int]) -> None:
    events = [b"response.created", b"response.in_progress", b"response.output_text.delta"]
    stream = b"".join(b'event: %b\ndata: {"t":"event: x"}\n\n' % event for event in events)
    watch, at, first = AnswerWatch(events[:2]), 0, -1
    for size in [*sizes, len(stream)]:
        if stream[at : at + size] and watch.feed(stream[at : at + size]):
            assert first < 0
            first = at + size
        at += size
    named = stream.index(events[2]) + len(events[2]) + 1
    assert first >= named
    assert first - named < max([*sizes, len(stream)])


def test_an_answer_that_is_no_stream_has_no_preamble() -> None:
    assert AnswerWatch([b"response.created"]).feed(b'{"id":"resp_1"')


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
    assert watch._tail_bytes <= 8192 + PILED_MAX * 777


@given(st.lists(st.text(max_size=200), min_size=1, max_size=70), USAGES, st.data())
def test_a_pile_is_as_good_as_being_fed(
    texts: list[str], usage: Usage, data: st.DataObject
) -> None:
    """Whoever relays may put chunks on the pile once the answer has started, as the rules say."""
    events = stream_body(texts, usage).split(b"\n\n")
    cut = data.draw(st.integers(1, len(events)))
    taps = [Tap(signs, TapBudget(2**20)) for signs in ((b"7",), (b"7",))]
    fed, piled = AnswerWatch((), taps[0]), AnswerWatch((), taps[1])
    for number, event in enumerate(events):
        fed.feed(event + b"\n\n")
        if not piled.started or number < cut or len(event) > PILED_BYTES:
            piled.feed(event + b"\n\n")
        else:
            piled.pile.append(event + b"\n\n")
            if len(piled.pile) >= PILED_MAX:
                piled.settle()
    assert len(piled.pile) < PILED_MAX
    assert fed.usage() == piled.usage() == usage
    assert fed.end() == piled.end()
    assert fed.taken() == piled.taken()
    assert not fed.taken()


def test_the_tap_takes_what_piled_up_and_no_more() -> None:
    budget = TapBudget(2**20)
    watch = AnswerWatch((), Tap((b"sign",), budget))
    for chunk in (b"data: a\n\n", b"data: sign\n\n", b"data: b\n\n"):
        watch.feed(chunk)
    assert watch.taken().endswith(b"data: sign\n\ndata: b\n\n")
    watch.feed(b"data: sign\n\n" * 1000)
    assert (watch.taken(), budget.used) == (b"", 0)


@given(st.lists(st.binary(max_size=6000), max_size=100))
def test_the_end_is_what_came_last(chunks: list[bytes]) -> None:
    watch, whole = AnswerWatch(), b"".join(chunks)
    for chunk in chunks:
        watch.feed(chunk)
    end = watch.end()
    assert whole.endswith(end)
    assert len(end) >= min(len(whole), 8192)


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


@pytest.mark.parametrize("tokens", [4294967295, 2**64 - 1])
def test_figures_that_no_prompt_can_have_are_none(tokens: int) -> None:
    """Counts are kept in 32 bits: a prompt of so many could never be placed again."""
    watch = AnswerWatch()
    watch.feed(b'{"usage": {"prompt_tokens": %d, "completion_tokens": 1}}' % tokens)
    assert watch.usage() is None
