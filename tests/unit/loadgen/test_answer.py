import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadgen import answer
from loadgen.answer import Answer
from loadgen.sse import parse_event
from tests.support.chat_mock import chunk, event, usage
from tests.support.shared import shared_path

TEXTS = st.text(alphabet='a "\\\n\u00e9\u4e2d{}', max_size=12)
DELTAS = st.one_of(
    TEXTS.map(lambda text: {"content": text}),
    TEXTS.map(lambda text: {"reasoning": text}),
    TEXTS.map(lambda text: {"content": text, "reasoning_content": text}),
    st.just({"role": "assistant", "content": ""}),
    st.just({"tool_calls": [{"index": 0, "function": {"arguments": "x"}}]}),
    st.just({}),
)
ENDS = st.sampled_from([{}, {"finish_reason": None}, {"finish_reason": "stop"}])


@given(st.lists(st.tuples(DELTAS, ENDS), max_size=12))
def test_unparsed_chunks_count_as_parsed_ones_do(deltas: list[tuple[dict, dict]]) -> None:
    payloads = [
        orjson.dumps({"id": "c", "choices": [{"index": 0, "delta": delta, **end}]})
        for delta, end in deltas
    ]
    stream = Answer()
    for at, payload in enumerate(payloads):
        stream.feed(float(at), b"data: " + payload + b"\n\n")
    sizes = [parse_event(payload).size() for payload in payloads]
    assert stream.times == [float(at) for at, size in enumerate(sizes) if size]


def test_only_the_first_of_equal_chunks_is_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    parsed: list[bytes] = []

    def spy(payload: bytes) -> answer.StreamEvent:
        parsed.append(payload)
        return parse_event(payload)

    monkeypatch.setattr(answer, "parse_event", spy)
    stream = Answer()
    for text in ("one", "two", 'with " in it', "\\"):
        stream.feed(1.0, chunk(text))
    stream.feed(2.0, usage(9, 4, 8) + b"data: [DONE]\n\n")
    assert len(parsed) == 2
    assert stream.sizes == [3, 3, 13, 2]
    assert stream.done
    assert stream.usage is not None
    assert stream.usage.completion_tokens == 4


def test_several_chunks_in_one_piece_count_each() -> None:
    stream = Answer()
    stream.feed(1.0, chunk("a") + chunk("b") + chunk("c"))
    assert stream.times == [1.0, 1.0, 1.0]


def test_an_error_in_the_stream_is_kept() -> None:
    stream = Answer()
    stream.feed(1.0, chunk("a") + event({"error": {"message": "gone"}}))
    assert "gone" in stream.error


def test_the_head_is_bounded() -> None:
    stream = Answer()
    for _ in range(100):
        stream.feed(1.0, chunk("x" * 100))
    assert len(stream.head) < 2 * answer.ERROR_BODY_BYTES_MAX


def fed(name: str) -> Answer:
    stream = Answer()
    for at, line in enumerate(shared_path("vllm-samples", "http", name).read_bytes().split(b"\n")):
        stream.feed(float(at), line + b"\n")
    return stream


@pytest.mark.parametrize(
    ("name", "chunks", "tokens"),
    [
        ("anthropic_stream.body", 8, (1691, 8, 1664)),
        ("responses_stream.body", 6, (1462, 8, 1440)),
    ],
)
def test_streams_of_other_apis(name: str, chunks: int, tokens: tuple[int, int, int]) -> None:
    stream = fed(name)
    assert stream.usage is not None
    assert (stream.usage.prompt, stream.usage.completion, stream.usage.cached) == tokens
    assert len(stream.times) == chunks
    assert stream.done
    assert not stream.error


def test_completions_chunks_carry_text() -> None:
    stream = Answer()
    stream.feed(1.0, event({"choices": [{"index": 0, "text": "one"}], "usage": None}))
    stream.feed(2.0, event({"choices": [{"index": 0, "text": "two"}], "usage": None}))
    assert stream.times == [1.0, 2.0]


def test_a_usage_of_the_answer_alone_keeps_what_was_said_of_the_prompt() -> None:
    stream = Answer()
    first = {"input_tokens": 10, "cache_read_input_tokens": 90, "output_tokens": 1}
    stream.feed(1.0, event({"type": "message_start", "message": {"usage": first}}))
    stream.feed(2.0, event({"type": "message_delta", "delta": {}, "usage": {"output_tokens": 5}}))
    assert stream.usage is not None
    assert (stream.usage.prompt, stream.usage.cached, stream.usage.completion) == (100, 90, 5)
