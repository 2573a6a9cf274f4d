"""The emulator answers as a real vLLM does: same requests, same status, headers and shape."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest

from loadgen.emulator import EmulatorSettings, emulated
from tests.support.golden import Golden, golden
from tests.support.proxies import eventually
from tests.support.realstack.answered import ANSWERED, BROKEN, ENGINE_ONLY
from tests.support.realstack.refused import REFUSED, REFUSED_BY_US
from tests.support.realstack.requests import Case
from tests.support.wire import WireAnswer, ask, request

ENGINE = EmulatorSettings(
    model="tiny",
    block_size=32,
    hbm_tokens=35_200,
    max_model_len=32_768,
    time_scale=10.0,
    scale_out=True,
    kv_events=True,
)
ENGINE_THAT_CRAWLS = EmulatorSettings(model="tiny", decode_step_s=5.0)
GOLDEN = golden()
# A loop that wakes late puts several tokens into one event, and none may be left for the others.
STREAMS_AT_MOST = 5
# What a stand-in without logits cannot say.
NOT_EMULATED = {"chat-logprobs"}
# A union of models is refused once for each of them; the emulator has one.
ONE_REASON_OF_MANY = {
    "message-no-object", "role-missing", "name-null", "messages-bad-block", "tokenize-nothing",
}  # fmt: skip
# Texts, names, times and counts, which differ from answer to answer.
VALUES = {
    *("id", "request_id", "call_id", "item_id", "created", "created_at", "root", "max_model_len"),
    *("system_fingerprint", "text", "content", "delta", "arguments", "partial_json", "input"),
    *("prompt", "count", "tokens", "token_ids", "prompt_token_ids", "token_strs", "topic"),
    *("prompt_tokens", "total_tokens", "completion_tokens", "cached_tokens", "input_tokens"),
    *("created_cache_tokens", "output_tokens", "cache_creation_input_tokens", "endpoint"),
    *("cache_read_input_tokens", "cache_write_tokens", "original_input_tokens", "top_p"),
    *("sequence_number", "max_output_tokens", "replay_endpoint", "max_tokens", "extra_args"),
}


@pytest.fixture
async def url() -> AsyncIterator[str]:
    async with emulated(ENGINE) as urls:
        yield urls[0]


async def answer_of(url: str, case: Case) -> WireAnswer:
    headers = list(case.headers.items())
    return await ask(url, request(case.method, case.path, headers, case.bytes()))


def shape(value: Any, name: str = "") -> Any:
    """Keys in order and the values that are words of the protocol."""
    if isinstance(value, dict) and name != "parameters":
        return [(key, shape(inner, key)) for key, inner in value.items()]
    if isinstance(value, list):
        return [shape(each) for each in value] if name not in VALUES else list
    return type(value) if name in VALUES else value


def shapes(body: bytes | str) -> Any:
    """Of a body, or of the events of a stream, each run of equal ones as one; two choices may
    take turns."""
    text = body if isinstance(body, str) else body.decode()
    if not text.startswith(("data:", "event:")):
        return shape(orjson.loads(text)) if text else None
    found: list[Any] = []
    for event in text.rstrip("\n").split("\n\n"):
        head, _, data = event.rpartition("data: ")
        one = (head, data if data == "[DONE]" else shape(orjson.loads(data)))
        if one not in found[-2:]:
            found.append(one)
    return found


def same_headers(ours: WireAnswer, real: Golden) -> None:
    got = {name.decode().lower(): value.decode() for name, value in ours.headers}
    wanted = dict(real.headers)
    assert got.keys() == wanted.keys()
    for name in ("content-type", "server", "vary"):
        assert got.get(name) == wanted.get(name)


@pytest.mark.parametrize(
    "case",
    [case for case in (*ANSWERED, *ENGINE_ONLY) if case.name not in NOT_EMULATED],
    ids=lambda case: case.name,
)
async def test_answers_have_the_real_shape(url: str, case: Case) -> None:
    ours, real = await answer_of(url, case), GOLDEN[case.name]
    assert (ours.status, real.status) == (200, 200)
    again = STREAMS_AT_MOST if case.body.get("stream") else 0
    while again and shapes(ours.body) != shapes(real.body):
        ours, again = await answer_of(url, case), again - 1
    assert shapes(ours.body) == shapes(real.body)
    same_headers(ours, real)


@pytest.mark.parametrize("case", [*REFUSED, *REFUSED_BY_US], ids=lambda case: case.name)
async def test_refusals_have_the_real_words(url: str, case: Case) -> None:
    ours, real = await answer_of(url, case), GOLDEN[case.name]
    assert ours.status == real.status
    if case.name in ONE_REASON_OF_MANY:
        theirs = orjson.loads(real.body)["error"]
        error = orjson.loads(ours.body)["error"]
        assert (error["type"], error["code"]) == (theirs["type"], theirs["code"])
    else:
        assert ours.body.decode() == real.body
    same_headers(ours, real)


@pytest.mark.parametrize("case", BROKEN, ids=lambda case: case.name)
async def test_what_a_dead_engine_leaves_behind(case: Case) -> None:
    """The last event of a stream, or how it breaks off."""
    async with emulated(ENGINE_THAT_CRAWLS) as (url,):
        asking = asyncio.create_task(answer_of(url, case))

        async def is_running() -> bool:
            state = await ask(url, request("GET", "/emulator/state"))
            return bool(orjson.loads(state.body)["running"])

        await eventually(is_running)
        await ask(url, request("POST", "/emulator/crash", body=b"{}"))
        ours, real = await asking, GOLDEN[case.name]
    assert (ours.status, ours.complete) == (real.status, real.complete)
    if real.complete:
        same_headers(ours, real)
        theirs = real.body.rstrip("\n").split("\n\n")
        last = theirs[-2:] if theirs[-1] == "data: [DONE]" else theirs[-1:]
        got = ours.body.decode().rstrip("\n").split("\n\n")
        assert shapes("\n\n".join(got[-len(last) :])) == shapes("\n\n".join(last))
