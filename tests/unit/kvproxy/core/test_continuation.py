from typing import Any

import orjson
import pytest

from kvproxy.core.continuation import Continuation, continuation_of
from kvproxy.core.dialects import BY_NAME
from kvproxy.core.errors import ProxyError
from tests.support.makers import make_reader

BROKE = ProxyError("upstream_broke", "gone")
CHAT: dict[str, Any] = {
    "model": "m",
    "stream": True,
    "max_tokens": 10,
    "messages": [{"role": "user", "content": "hi"}],
}


def chunk(content: str | None = None, **more: Any) -> bytes:
    delta = more.pop("delta", {"content": content})
    choice = {"index": 0, "delta": delta, "finish_reason": more.pop("finish", None)}
    event = {"id": "one", "created": 1, "choices": [choice]} | more
    return b"data: " + orjson.dumps(event) + b"\n\n"


ROLE = chunk(delta={"role": "assistant", "content": ""})
DONE = b"data: [DONE]\n\n"


def flow(dialect: str = "chat", body: dict[str, Any] | None = None) -> Continuation | None:
    raw = orjson.dumps(CHAT if body is None else body)
    return continuation_of(make_reader().read(BY_NAME[dialect], "", raw))


def begun(*chunks: bytes, body: dict[str, Any] | None = None) -> Continuation:
    made = flow(body=body)
    assert made is not None
    for each in chunks:
        assert made.feed(each) == each
    return made


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"n": 1, "tools": None, "tool_choice": None, "logprobs": False, "response_format": None},
        {"temperature": 0.5, "seed": 3, "stop": ["x"], "stream_options": {"include_usage": True}},
    ],
)
def test_plain_text_may_go_on(more: dict[str, Any]) -> None:
    assert flow(body=CHAT | more) is not None


@pytest.mark.parametrize(
    "more",
    [
        {"stream": False},
        {"n": 2},
        {"tools": [{"type": "function", "function": {"name": "f"}}]},
        {"response_format": {"type": "json_object"}},
        {"structured_outputs": {"regex": "a+"}},
        {"guided_json": {}, "guided_regex": "x"},
        {"logprobs": True},
        {"presence_penalty": 0.5},
        {"repetition_penalty": 1.2},
        {"continue_final_message": True},
        {"stream_options": {"include_usage": True, "continuous_usage_stats": True}},
        {"unheard_of": "x"},
    ],
)
def test_everything_else_may_not(more: dict[str, Any]) -> None:
    assert flow(body=CHAT | more) is None


def test_bodies_with_texts_that_are_no_utf_8_do_not_go_on() -> None:
    said = b'[{"role":"user","content":"a"}]'
    raw = b'{"model":"m","stream":true,"stream_options":{"a":"\xff"},"messages":%b}' % said
    assert continuation_of(make_reader().read(BY_NAME["chat"], "", raw)) is None
    raw = b'{"model":"m","stream":true,"messages":["\xff"]}'
    made = continuation_of(make_reader().read(BY_NAME["chat"], "", raw))
    assert made is not None
    made.feed(chunk("said"))
    assert made.resume(BROKE, raw) is None


@pytest.mark.parametrize("dialect", ["messages", "responses"])
def test_nor_other_dialects(dialect: str) -> None:
    assert flow(dialect, CHAT | {"input": "x"}) is None


def test_the_prompt_and_what_was_said_are_asked_again() -> None:
    made = begun(ROLE, chunk("Hel"), chunk("lo "))
    raw = orjson.dumps(CHAT)
    resumed = made.resume(BROKE, raw)
    assert resumed is not None
    asked = orjson.loads(resumed)
    assert asked == CHAT | {
        "max_tokens": 8,
        "messages": [*CHAT["messages"], {"role": "assistant", "content": "Hello"}],
        "continue_final_message": True,
        "add_generation_prompt": False,
    }


def test_what_comes_then_fits_what_came_before() -> None:
    made = begun(ROLE, chunk("Hel"), chunk("lo "))
    assert made.feed(b'data: {"half') == b""
    assert made.resume(BROKE, orjson.dumps(CHAT)) is not None
    later = {"id": "two", "created": 9}
    assert made.feed(ROLE) == b""
    assert made.feed(chunk(" the", **later)) == chunk("the")
    assert made.feed(chunk("re", finish="stop", **later)) == chunk("re", finish="stop")
    usage = {"prompt_tokens": 12, "completion_tokens": 2, "total_tokens": 14}
    got = made.feed(b"data: " + orjson.dumps(later | {"choices": [], "usage": usage}) + b"\n\n")
    assert orjson.loads(got[6:])["usage"] == {
        "prompt_tokens": 10,
        "completion_tokens": 4,
        "total_tokens": 14,
    }
    assert made.feed(DONE) == DONE
    assert made.end() == b""


def test_a_completion_goes_on_behind_its_prompt() -> None:
    body = {"model": "m", "stream": True, "prompt": 'say "'}
    made = flow("completions", body)
    assert made is not None
    first = {"id": "c", "created": 1, "choices": [{"index": 0, "text": "a\n"}]}
    event = b"data: " + orjson.dumps(first) + b"\n\n"
    assert made.feed(event) == event
    resumed = made.resume(BROKE, orjson.dumps(body))
    assert resumed is not None
    assert orjson.loads(resumed) == body | {"prompt": 'say "a\n'}
    assert continuation_of(make_reader().read(BY_NAME["completions"], "", b"{}")) is None


@pytest.mark.parametrize(
    "said",
    [
        chunk(delta={"reasoning": "hm"}),
        chunk(delta={"reasoning_content": "hm"}),
        chunk(delta={"tool_calls": [{"index": 0}]}),
        chunk("<think>"),
        b"data: not json\n\n",
        chunk("x", finish="stop"),
        b"".join(chunk("x") for _ in range(10)),
    ],
)
def test_some_answers_do_not_go_on(said: bytes) -> None:
    assert begun(said).resume(BROKE, orjson.dumps(CHAT)) is None


@pytest.mark.parametrize(
    "messages", [[], "x", [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]]
)
def test_some_prompts_do_not(messages: Any) -> None:
    body = CHAT | {"messages": messages}
    made = flow(body=body)
    assert made is not None
    made.feed(chunk("x"))
    assert made.resume(BROKE, orjson.dumps(body)) is None


def test_nothing_said_yet_is_asked_as_it_was() -> None:
    raw = orjson.dumps(CHAT)
    resumed = begun(ROLE).resume(BROKE, raw)
    assert resumed is not None
    assert resumed == raw


def test_it_goes_on_twice_at_most() -> None:
    made, raw = begun(chunk("a")), orjson.dumps(CHAT)
    assert made.resume(BROKE, raw)
    made.feed(chunk("b"))
    again = made.resume(BROKE, raw)
    assert again is not None
    assert orjson.loads(again)["messages"][-1]["content"] == "ab"
    assert made.resume(BROKE, raw) is None


def test_an_error_event_is_kept_back() -> None:
    made = begun(chunk("a"))
    assert made.feed(b'data: {"error":{"message":"dead"}}\n\n' + DONE) == b""
    with pytest.raises(ProxyError) as raised:
        made.end()
    assert raised.value.body == b'{"error":{"message":"dead"}}'


def test_a_text_that_was_over_is_closed() -> None:
    assert begun(chunk("a")).closing() is None
    assert begun(chunk("a", finish="stop")).closing() == DONE
    assert begun(chunk("a", finish="stop"), DONE).closing() == b""
    wanted = CHAT | {"stream_options": {"include_usage": True}}
    assert begun(chunk("a", finish="stop"), body=wanted).closing() is None


@pytest.mark.parametrize("size", [1, 2, 7, 1000])
def test_however_it_is_cut_the_client_gets_the_same_bytes(size: int) -> None:
    made = flow()
    assert made is not None
    sent = b": hello\n\n" + ROLE + chunk("x" * 50) + chunk(finish="stop") + DONE
    parts = [made.feed(sent[at : at + size]) for at in range(0, len(sent), size)]
    assert b"".join(parts) + made.end() == sent


@pytest.mark.parametrize(
    ("said", "left", "kept"),
    [
        (["a", "b", "c"], 7, "abc"),
        (["a", "b\n", "\n", " "], 8, "ab"),
        (["a", "\n"], 9, "a"),
        (["\n", "\n", "\n"], 10, None),
    ],
)
def test_what_is_generated_again_does_not_count_twice(
    said: list[str], left: int, kept: str | None
) -> None:
    body = CHAT | {"stream_options": {"include_usage": True}}
    made = begun(ROLE, *map(chunk, said), body=body)
    asked = made.resume(BROKE, orjson.dumps(body))
    assert asked is not None
    read = orjson.loads(asked)
    assert read["max_tokens"] == left
    last = read["messages"][-1]
    assert (last["content"] if last["role"] == "assistant" else None) == kept
    # The client has what it had and the rest once, and the sum of both is what was asked for.
    text = "".join(said)
    again = text[len(kept or "") :]
    got = b"".join(made.feed(chunk(each)) for each in [*again, *"x" * (left - len(again))])
    assert b"".join([*map(chunk, said), got]).count(b'"content":"x"') == left - len(again)
    usage = {"prompt_tokens": 50, "completion_tokens": left, "total_tokens": 50 + left}
    event = {"id": "two", "created": 2, "choices": [], "usage": usage}
    told = orjson.loads(made.feed(b"data: " + orjson.dumps(event) + b"\n\n")[6:])
    assert told["usage"]["completion_tokens"] == 10


def test_events_of_another_form_are_passed_at_once_and_never_gone_on_with() -> None:
    made, event = begun(ROLE), chunk("a").replace(b"\n\n", b"\r\n\r\n")
    assert made.feed(event) == event
    assert made.resume(BROKE, orjson.dumps(CHAT)) is None


def test_an_event_that_was_passed_in_pieces_is_not_gone_on_behind() -> None:
    made, long = begun(ROLE), chunk("x" * 3 * 2**20)
    assert made.feed(long[: 2 * 2**20]) == long[: 2 * 2**20]
    assert made.feed(long[2 * 2**20 :]) == long[2 * 2**20 :]
    assert made.resume(BROKE, orjson.dumps(CHAT)) is None


def test_an_event_without_choices_passes_from_a_later_engine_too() -> None:
    made = begun(ROLE, chunk("a"))
    assert made.resume(BROKE, orjson.dumps(CHAT)) is not None
    assert orjson.loads(made.feed(b'data: {"object":"ping"}\n\n')[6:])["object"] == "ping"
