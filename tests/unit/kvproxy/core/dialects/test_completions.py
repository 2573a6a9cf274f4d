import json
from typing import Any

import pytest

from kvproxy.core.canonical import Canonicaliser, Order, Whose
from kvproxy.core.dialects.completions import Completions
from kvproxy.core.errors import ProxyError
from kvproxy.core.representatives import Representatives
from kvproxy.core.spans import Span
from kvproxy.core.turn import Turn
from tests.support.makers import make_reader

DIALECT = Completions()


def read(body: Any) -> Turn:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return make_reader().read(DIALECT, "", raw)


def test_prompts_share_their_beginning() -> None:
    one = read({"model": "m", "prompt": "x" * 300 + "a"}).chain
    other = read({"model": "m", "prompt": "x" * 300 + "b"}).chain
    assert one.hashes[:4] == other.hashes[:4]
    assert one.end != other.end


def test_everything_but_model_salt_and_prompt_is_invisible() -> None:
    base = {"model": "m", "prompt": "hello"}
    assert read(base | {"max_tokens": 5, "stream": True}).chain == read(base).chain
    assert read(base | {"cache_salt": "s"}).chain != read(base).chain
    assert read(base | {"model": "n"}).chain != read(base).chain


def test_token_ids_and_batches() -> None:
    ids = read({"model": "m", "prompt": [1, 2, 3]}).chain
    assert ids != read({"model": "m", "prompt": [1, 2, 4]}).chain
    batch = read({"model": "m", "prompt": ["first", "second"]}).chain
    assert batch == read({"model": "m", "prompt": "first"}).chain
    assert len(read({"model": "m", "prompt": []}).chain.segment_ends) == 1


@pytest.mark.parametrize("prompt", [7, {"a": 1}, None, [1.5], [[1]], [None]])
def test_other_shapes_pass_unread(prompt: Any) -> None:
    turn = read({"model": "m", "prompt": prompt})
    assert (len(turn.chain), turn.model) == (0, "m")


def test_a_member_without_a_name_is_nothing_special() -> None:
    base = {"model": "m", "prompt": "hello"}
    for value in (["x"], "x", 7):
        assert read(base | {"": value}).chain == read(base).chain


def test_no_prompt_at_all() -> None:
    assert len(read({"model": "m"}).chain) == 0


def test_bytes_that_are_no_text_are_not_json() -> None:
    with pytest.raises(ProxyError) as raised:
        read(b'{"model":"m","prompt":"x","cache_salt":"\xff"}')
    assert raised.value.code == "invalid_json"


def test_a_prompt_is_no_list_of_messages() -> None:
    edits = Canonicaliser(Order.PRESERVE, Representatives(0)).edits(Whose(""))
    with pytest.raises(AssertionError):
        DIALECT.items(Span(b"{}", 0, 2), edits)


def test_errors_speak_openai() -> None:
    error = ProxyError("no_replica", "none")
    assert json.loads(DIALECT.error_body(error))["error"]["code"] == 503
    assert DIALECT.stream_error(error).endswith(b"data: [DONE]\n\n")
