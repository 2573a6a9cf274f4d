import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from loadgen import sse
from loadgen.sse import EventStream, StreamError, parse_event


@given(st.lists(st.integers(1, 30)), st.booleans())
@example([13, 16], True)  # the second piece ends between the halves of a line end
def test_events_are_found_however_the_bytes_are_cut(cuts: list[int], windows: bool) -> None:
    whole = b': comment\n\ndata: {"a":1}\n\ndata:{"b":2}\n\nevent: x\ndata: [DONE]\n\n'
    if windows:
        whole = whole.replace(b"\n", b"\r\n")
    stream, found, at = EventStream(), [], 0
    for cut in [*cuts, len(whole)]:
        found += stream.feed(whole[at : at + cut])
        at += cut
    assert found == [b'{"a":1}', b'{"b":2}', b"[DONE]"]


def test_an_endless_event_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sse, "EVENT_BYTES_MAX", 10)
    with pytest.raises(StreamError, match="more than 10 bytes"):
        EventStream().feed(b"data: " + b"x" * 20)


@pytest.mark.parametrize(
    ("delta", "size"),
    [
        (b'{"role":"assistant","content":""}', 0),
        (b'{"content":null}', 0),
        (b'{"content":"four"}', 4),
        (b'{"reasoning_content":"abc"}', 3),
        (b'{"reasoning":"abc"}', 3),
        (b'{"tool_calls":[]}', 0),
        (b'{"tool_calls":[{"index":0}]}', 13),
    ],
)
def test_size_is_that_of_generated_text(delta: bytes, size: int) -> None:
    assert parse_event(b'{"choices":[{"delta":%s}]}' % delta).size() == size


def test_usage_with_and_without_details() -> None:
    full = parse_event(
        b'{"choices":[],"usage":{"prompt_tokens":9,"completion_tokens":2,'
        b'"prompt_tokens_details":{"cached_tokens":4}}}'
    ).usage
    assert full is not None
    assert full.prompt_tokens_details is not None
    assert full.prompt_tokens_details.cached_tokens == 4
    bare = parse_event(b'{"usage":{"prompt_tokens":9,"prompt_tokens_details":null}}').usage
    assert bare is not None
    assert bare.prompt_tokens_details is None


@pytest.mark.parametrize("payload", [b"", b"{", b"[]", b'{"choices":3}', b"\xff"])
def test_other_payloads_are_an_error(payload: bytes) -> None:
    with pytest.raises(StreamError):
        parse_event(payload)
