"""What a conversation of 400 KB leaves behind, in all that a proxy remembers of it: a budget."""

import uvloop

from tests.benchmark.memory.__main__ import Conversations, converse
from tests.benchmark.memory.parts import sizes
from tests.support.unplugged import Unplugged

BYTES_MAX, WARM, COUNT = 15_000, 12, 12


def test_a_conversation_leaves_little_behind() -> None:
    async def left() -> dict[str, int]:
        proxy, made = Unplugged(), Conversations()
        await converse(proxy, made, range(WARM), 0)
        before = sizes(proxy.app)
        await converse(proxy, made, range(WARM, WARM + COUNT), 0)
        return {name: (size - before[name]) // COUNT for name, size in sizes(proxy.app).items()}

    parts = uvloop.run(left())
    # Of request heads so many are kept and no more, and of a cache what it holds.
    del parts["heads of requests"], parts["models of caches (blocks)"]
    assert parts["resume points"] > 8_000, "all parts are found"
    assert sum(parts.values()) < BYTES_MAX, parts
