"""How long the steps of a request take: `pytest tests/benchmark`, not part of `make test`."""

import json
from collections.abc import Callable
from itertools import count

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from kvproxy.core.canonical import Canonicaliser, Order
from kvproxy.core.dialects.chat import Chat
from kvproxy.core.prefix_tree import PrefixTree
from kvproxy.core.representatives import Representatives
from kvproxy.core.router import Router
from kvproxy.core.turn import TurnReader
from kvproxy.core.types import Chain, Identity, Usage
from tests.support.makers import make_chain, make_replica, make_router

CHAT = Chat()
BLOCK_BYTES = 1024
SIZES = pytest.mark.parametrize("size", [40_000, 400_000, 4_000_000], ids=["40kB", "400kB", "4MB"])
PROMPT_BYTES = 400_000
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": f"tool_{index}",
            "description": "does something useful " * 20,
            "parameters": {
                "type": "object",
                "properties": {
                    f"p{n}": {"type": "string", "description": "x" * 40} for n in range(5)
                },
            },
        },
    }
    for index in range(15)
]


def body(size: int, extra_turns: int = 0, salt: str = "") -> bytes:
    """A coding conversation of about `size` bytes: messages of 4 kB, every fourth a tool call."""
    line = "def function(argument: int) -> str:\n    return 'text'\n"
    messages = [{"role": "system", "content": salt + line * 80}]
    for index in range(size // 4000 - 2 + 2 * extra_turns):
        text = f"{index} " + line * 72
        if index % 4:
            messages.append({"role": "user" if index % 2 else "assistant", "content": text})
        else:
            function = {"name": "tool_1", "arguments": json.dumps({"p1": text, "p2": index})}
            call = {"id": f"call_{index}", "type": "function", "function": function}
            answer = {"role": "assistant", "content": None, "tool_calls": [call]}
            messages.append(answer)  # type: ignore[arg-type]
    return json.dumps({"model": "m", "tools": TOOLS, "messages": messages, "stream": True}).encode()


def new_reader() -> TurnReader:
    return TurnReader(Canonicaliser(Order.FIRST_SEEN, Representatives(2**26)), BLOCK_BYTES, 10_000)


@SIZES
def test_read_first_turn(benchmark: BenchmarkFixture, size: int) -> None:
    raw = body(size)

    def fresh() -> tuple[tuple[object, ...], dict[str, object]]:
        return (new_reader(),), {}

    turn = benchmark.pedantic(lambda reader: reader.read(CHAT, "", raw), setup=fresh, rounds=60)
    assert turn.resumed_at == 0


@SIZES
def test_read_later_turn(benchmark: BenchmarkFixture, size: int) -> None:
    first, later = body(size), body(size, extra_turns=1)

    def known() -> tuple[tuple[object, ...], dict[str, object]]:
        reader = new_reader()
        reader.read(CHAT, "", first)
        return (reader,), {}

    turn = benchmark.pedantic(lambda reader: reader.read(CHAT, "", later), setup=known, rounds=60)
    assert turn.resumed_at > len(later) - 30_000


def warm_router(replicas: int, sessions: int = 50) -> Router:
    router = make_router([make_replica(f"r{n}", hbm_tokens=2_000_000) for n in range(replicas)])
    for index in range(sessions):
        settle(router, Identity("", "m", f"s{index}"), conversation(index), float(index))
    return router


def conversation(index: int, more: int = 0) -> Chain:
    shared = ["s" * 30_000]
    own = [f"{index} {n} ".ljust(4000, "x") for n in range((PROMPT_BYTES - 30_000) // 4000 + more)]
    return make_chain(*shared, *own, block_bytes=BLOCK_BYTES)


def settle(router: Router, identity: Identity, chain: Chain, now: float) -> None:
    placement = router.place(identity, chain, now)
    router.first_token(placement, now)
    router.finish(placement, Usage(chain.text_bytes[-1] // 4, 100, 0), now)


@pytest.mark.parametrize("replicas", [16, 128])
def test_decide(benchmark: BenchmarkFixture, replicas: int) -> None:
    """look_up, score, choose and reserve for the next turn of a 100k-token conversation."""
    router = warm_router(replicas)
    chain, identity, clock = conversation(7, more=2), Identity("", "m", "s7"), count(1000)

    def decide() -> object:
        return router.place(identity, chain, float(next(clock)))

    def undo_later(placement: object) -> None:
        router.abort(placement, float(next(clock)))  # type: ignore[arg-type]

    def place_and_abort() -> None:
        undo_later(decide())

    benchmark(place_and_abort)


@pytest.mark.parametrize("replicas", [16, 128])
def test_look_up_and_choose(benchmark: BenchmarkFixture, replicas: int) -> None:
    router = warm_router(replicas)
    chain, identity = conversation(7, more=2), Identity("", "m", "s7")

    def decide() -> object:
        lookup = router.look_up(identity, chain, 1000.0)
        return router.choose(identity, chain, lookup, router.asked(lookup, 1000.0))

    benchmark(decide)


@pytest.fixture
def tree() -> PrefixTree:
    made = PrefixTree(20 * PROMPT_BYTES)
    for index in range(100):
        chain = conversation(index)
        end, held = made.pin(chain.hashes)
        made.release(made.extend(end, chain.hashes[held:], chain.text_bytes[held:]))
    return made


def test_match(benchmark: BenchmarkFixture, tree: PrefixTree) -> None:
    chain = conversation(99)
    assert benchmark(tree.match, chain.hashes) == len(chain)


def test_pin_and_release(benchmark: BenchmarkFixture, tree: PrefixTree) -> None:
    chain = conversation(99)
    benchmark(lambda: tree.release(tree.pin(chain.hashes)[0]))


def test_pin_extend_and_release(benchmark: BenchmarkFixture, tree: PrefixTree) -> None:
    """New conversations of 100k tokens each, in a full tree: each evicts another."""
    names = count(1000)

    def fresh() -> tuple[tuple[object, ...], dict[str, object]]:
        return (conversation(next(names)),), {}

    def use(chain: Chain) -> None:
        end, held = tree.pin(chain.hashes)
        tree.release(tree.extend(end, chain.hashes[held:], chain.text_bytes[held:]))

    run: Callable[..., object] = benchmark.pedantic
    run(use, setup=fresh, rounds=200)
    assert tree.evicted > 0
