"""What a line says, and that neither text nor names are in it."""

import json
from base64 import b64decode

from kvproxy.ops.decision_lines import Decided, Lines, decided
from tests.support.fake_ports import World, stream

USAGE = {"prompt_tokens": 900, "completion_tokens": 2}
HEADER = {
    "x-session-id": "secret-name",
    "authorization": "Bearer sk-secret",
    "content-type": "application/json",
}


async def one(world: World, *texts: str) -> Decided:
    messages = [{"role": "user", "content": text * 400} for text in texts]
    body = json.dumps({"model": "m", "messages": messages}).encode()
    await world.proxy.handle(world.exchange(body, header=HEADER))
    found = decided(world.records[-1], 1000.0)
    assert found is not None
    return found


async def test_a_turn_names_what_it_shares_with_the_one_before() -> None:
    world, lines = World(stream("a", usage=USAGE), replicas=1), Lines(bytes(32))
    assert json.loads(lines.first(1.0))["kvproxy_decisions"] == 1
    first = json.loads(lines.line(await one(world, "alpha")))
    second = json.loads(lines.line(await one(world, "alpha", "beta")))
    assert (first["base"], first["keep"], second["base"]) == (None, 0, first["n"])
    assert second["keep"] > 0
    whole = len(b64decode(first["blocks"])) // 8
    assert len(b64decode(first["text_bytes"])) == 4 * whole
    assert second["prompt_tokens"] == 900
    assert second["replica"] == "r0"
    assert second["session"] == first["session"] != ""


async def test_no_text_no_names_and_no_hash_that_can_be_guessed() -> None:
    world = World(stream("a", usage=USAGE), replicas=1)
    told = await one(world, "alpha")
    lines = [Lines(bytes([number]) * 32).line(told) for number in (1, 2)]
    for line in lines:
        assert not any(word in line for word in (b"alpha", b"secret", b"sk-"))
    first, second = (json.loads(line) for line in lines)
    for key in ("blocks", "session", "tenant"):
        assert first[key] != second[key]


async def test_a_new_file_stands_alone() -> None:
    world, lines = World(stream("a", usage=USAGE), replicas=1), Lines(bytes(32))
    told = await one(world, "alpha")
    lines.line(told)
    assert json.loads(lines.line(told))["blocks"] == ""
    lines.first(1.0)
    again = json.loads(lines.line(told))
    assert (again["n"], again["base"], bool(again["blocks"])) == (1, None, True)
