"""What is told of a request, and that no text of its prompt is in it."""

import json

from kvproxy.ops.explanations import Explanations
from tests.support.fake_ports import World, stream

USAGE = {"prompt_tokens": 900, "completion_tokens": 2}
SESSION = {"x-session-id": "s", "content-type": "application/json"}


def body(*texts: str) -> bytes:
    messages = [{"role": "user", "content": text * 100} for text in texts]
    return json.dumps({"model": "m", "messages": messages}).encode()


async def explained(world: World, kept: Explanations, raw: bytes) -> tuple[str, str]:
    """(request id, explanation)"""
    exchange = world.exchange(raw, header=SESSION)
    await world.proxy.handle(exchange)
    kept.add(world.records[-1])
    told = kept.get(exchange.request_id)
    assert told is not None
    return exchange.request_id, told.decode()


async def test_a_break_is_named_and_placed() -> None:
    world, kept = World(stream("a", usage=USAGE), replicas=1), Explanations(2**20)
    await explained(world, kept, body("one", "two", "three"))
    request_id, told = await explained(world, kept, body("one", "new", "three", "four"))
    found = json.loads(told)
    assert found["request_id"] == request_id
    assert found["prefix"]["break"] == "history_edited"
    assert found["prefix"]["pointer"] == "/messages/1"
    assert found["prefix"]["lost_tokens"] > 0
    assert found["session"] | {"turn": 2} == found["session"]
    assert found["session"]["evidence"] == "header:x-session-id"
    assert found["usage"]["prompt_tokens"] == 900
    assert found["decision"]["replica"] == "r0"
    assert not any(text in told for text in ("oneone", "newnew", "threethree"))


async def test_a_prompt_that_goes_on() -> None:
    world, kept = World(stream("a", usage=USAGE), replicas=1), Explanations(2**20)
    await explained(world, kept, body("one"))
    _, told = await explained(world, kept, body("one", "two"))
    found = json.loads(told)["prefix"]
    assert (found["went_on_as"], found["break"], found["lost_tokens"]) == ("grown", None, 0)


async def test_only_prompts_are_kept_and_only_so_many() -> None:
    world, kept = World(stream("a", usage=USAGE), replicas=1), Explanations(5000)
    for number in range(20):
        await explained(world, kept, body(f"prompt {number}"))
    assert 0 < len(kept) < 10
    assert kept.get("unknown") is None
