import json

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvproxy.core.disagg.legs import prefill_body, splittable, with_fields
from kvproxy.core.spans import object_spans

CHAT = "/v1/chat/completions"
FIELDS = {"kv_transfer_params": {"do_remote_decode": True}}


def first(path: str, **members: object) -> dict[str, object] | None:
    body = prefill_body(path, json.dumps(members).encode(), FIELDS)
    return None if body is None else orjson.loads(body)


def test_the_prefill_leg_answers_once_and_shortly() -> None:
    found = first(
        CHAT,
        model="m",
        messages=[],
        stream=True,
        stream_options={"include_usage": True},
        max_tokens=500,
        max_completion_tokens=400,
        min_tokens=7,
        temperature=0.5,
    )
    assert found == {
        "model": "m",
        "messages": [],
        "temperature": 0.5,
        "stream": False,
        "max_tokens": 1,
        "max_completion_tokens": 1,
        **FIELDS,
    }


@pytest.mark.parametrize(
    ("path", "name"),
    [
        (CHAT, "max_tokens"),
        ("/v1/completions", "max_tokens"),
        ("/v1/messages", "max_tokens"),
        ("/v1/responses", "max_output_tokens"),
    ],
)
def test_a_length_is_set_where_the_client_set_none(path: str, name: str) -> None:
    found = first(path, model="m")
    assert found == {"model": "m", "stream": False, name: 1, **FIELDS}


def test_values_keep_their_bytes() -> None:
    body = b'{ "model" : "m", "messages":[ {"role":"user",\n"content":"\\u00e9 1.50"} ] }'
    found = prefill_body(CHAT, body, {})
    assert found is not None
    assert b'[ {"role":"user",\n"content":"\\u00e9 1.50"} ]' in found


@pytest.mark.parametrize(
    ("path", "members"),
    [
        (CHAT, {"n": 2}),
        (CHAT, {"prompt_logprobs": 1}),
        (CHAT, {"kv_transfer_params": {"do_remote_decode": True}}),
        ("/v1/completions", {"prompt": ["a", "b"]}),
        ("/v1/completions", {"prompt": [1, 2]}),
        ("/v1/completions", {"prompt": "a", "echo": True}),
        ("/v1/responses", {"input": "a", "background": True}),
        ("/v1/responses", {"input": "a", "previous_response_id": "resp_1"}),
        ("/v1/embeddings", {"input": "a"}),
    ],
)
def test_what_stays_whole(path: str, members: dict[str, object]) -> None:
    spans = object_spans(json.dumps({"model": "m", **members}).encode())
    assert spans is not None
    assert not splittable(path, spans)
    assert first(path, model="m", **members) is None


@pytest.mark.parametrize("members", [{"n": 1}, {"n": None}, {"echo": False}, {"background": False}])
def test_what_says_nothing_is_no_hindrance(members: dict[str, object]) -> None:
    assert first(CHAT, model="m", **members) is not None


@pytest.mark.parametrize("body", [b'{"a":1,"a":2}', b'{"\\u0061":1}', b"{}"])
def test_a_body_that_cannot_be_followed_stays_whole(body: bytes) -> None:
    assert prefill_body(CHAT, body, FIELDS) is None


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=8,
)


@given(st.dictionaries(st.text(max_size=4), JSON), st.sampled_from([None, 1]))
def test_the_decode_leg_is_the_clients_body_and_the_members(
    members: dict[str, object], indent: int | None
) -> None:
    body = json.dumps(members, indent=indent).encode() + b"\n"
    found = with_fields(body, FIELDS)
    assert json.loads(found) == members | FIELDS
    assert found.startswith(body[: body.rindex(b"}")].rstrip())
    assert with_fields(body, {}) is body
