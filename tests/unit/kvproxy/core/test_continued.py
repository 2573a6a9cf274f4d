import json
from typing import Any

import pytest

from kvproxy.core.continued import Continued
from kvproxy.core.dialects.responses import Responses
from kvproxy.core.turn import Turn, TurnReader, apply
from tests.support.makers import make_chain, make_random_chain, make_reader
from tests.support.memory import assert_counted, taken

RESPONSES = Responses()
TOOL = {"type": "function", "name": "f", "parameters": {"a": 1, "b": 2}}
FIRST: dict[str, Any] = {
    "model": "m",
    "instructions": "Be brief.",
    "tools": [TOOL],
    "input": "x" * 2000,
}


def read(reader: TurnReader, body: dict[str, Any], tenant: str = "t") -> Turn:
    return reader.read(RESPONSES, tenant, json.dumps(body).encode())


def going_on(previous: str, **members: Any) -> dict[str, Any]:
    return FIRST | {"input": "and now?", "previous_response_id": previous} | members


def test_a_prompt_that_goes_on_by_id_begins_with_the_one_before() -> None:
    reader = make_reader()
    first = read(reader, FIRST)
    reader.responded(first, "t", "resp_1", 50)
    second = read(reader, going_on("resp_1"))
    blocks = len(first.chain)
    assert second.chain.hashes[:blocks] == first.chain.hashes
    # The answer counts some four bytes a token.
    assert second.chain.text_bytes[-1] == first.chain.text_bytes[-1] + 200 + len("and now?")
    reader.responded(second, "t", "resp_2", 1)
    third = read(reader, going_on("resp_2"))
    assert third.chain.hashes[: len(second.chain)] == second.chain.hashes
    # A conversation may go on twice from one response.
    again = read(reader, going_on("resp_1", input="or rather?"))
    shared = len(first.chain) + 1
    assert again.chain.hashes[:shared] == second.chain.hashes[:shared]
    assert again.chain.end != second.chain.end


def test_an_answer_of_more_tokens_than_there_is_memory_for_can_be_gone_on_from() -> None:
    reader = make_reader()
    reader.responded(read(reader, FIRST), "t", "resp_1", 10**9 - 1)
    assert read(reader, going_on("resp_1")).chain.text_bytes[-1] < 5 * 2**20


def test_what_is_not_known_is_not_guessed() -> None:
    reader = make_reader()
    first = read(reader, FIRST)
    reader.responded(first, "t", "resp_1", 50)
    assert len(read(reader, going_on("resp_2")).chain) == 0
    assert len(read(reader, going_on("resp_1"), "other").chain) == 0
    # Another head makes an engine print all of it anew.
    assert len(read(reader, going_on("resp_1", instructions="Be long.")).chain) == 0
    assert len(read(reader, FIRST | {"previous_response_id": None}).chain) == len(first.chain)


def test_tools_are_healed_there_too() -> None:
    reader = make_reader()
    reader.responded(read(reader, FIRST), "t", "resp_1", 1)
    other = [TOOL | {"parameters": {"b": 2, "a": 1}}]
    body = json.dumps(going_on("resp_1", tools=other)).encode()
    turn = reader.read(RESPONSES, "t", body)
    assert [splice.kind for splice in turn.splices] == ["schema_order"]
    assert json.loads(apply(body, turn.splices)) == going_on("resp_1")
    assert len(turn.chain)


def test_a_body_with_an_id_is_not_taken_for_a_growing_one() -> None:
    reader = make_reader()
    items = [{"role": "user", "content": "x" * 300}] * 9
    body = {"model": "m", "input": items}
    assert read(reader, body).resumed_at == 0
    assert read(reader, body).resumed_at > 0
    assert len(read(reader, body | {"previous_response_id": "resp_1"}).chain) == 0


def test_memory_is_bounded() -> None:
    continued = Continued(5000, 64)
    chain = make_chain("x" * 1000)
    for index in range(50):
        continued.keep("t", f"resp_{index}", chain, b"h", 1)
    assert continued._kept.size_bytes <= 5000
    assert continued.chain("t", "resp_49", b"h") is not None
    assert continued.chain("t", "resp_0", b"h") is None
    assert chain == make_chain("x" * 1000)


@pytest.mark.parametrize(("blocks", "messages"), [(4, 4), (40, 20), (400, 100)])
def test_what_is_counted_is_what_is_taken(blocks: int, messages: int) -> None:
    def make() -> Continued:
        continued = Continued(2**30, 1024)
        for number in range(300):
            chain = make_random_chain(blocks, messages)
            continued.keep("", f"resp_{number:032}", chain, b"%16d" % number, 30)
        return continued

    continued, real = taken(make)
    assert_counted(real, continued._kept.size_bytes)
