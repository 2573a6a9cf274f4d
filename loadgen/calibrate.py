"""What an endpoint's tokeniser and chat template add to our words, measured through /tokenize.

With it, prompts get exactly as many tokens as the trace says. Without /tokenize the overhead is
taken as nothing, and the fidelity figures of the run tell how far off that is.
"""

from collections.abc import Awaitable, Callable

import orjson

from loadgen.dialects import CALLED, DIALECTS, TOOLS
from loadgen.layout import Overhead
from loadgen.text import WordPool

WORDS = 512
CHAT = DIALECTS["chat"]
# messages, tools, whether to add the generation prompt -> token count, None when refused
Count = Callable[[list[dict[str, object]], list[object], bool], Awaitable[int | None]]


async def measure(count: Count, pool: WordPool) -> tuple[Overhead, float] | None:
    """The template's overhead in tokens and the tokens per word; None when `count` refuses
    even the simplest conversation."""
    text = pool.block_text(0, 0, WORDS).decode()

    def say(role: str, words: int = WORDS, **extra: object) -> dict[str, object]:
        return {"role": role, "content": text[: words * 4], **extra}

    opening = [say("system"), say("user")]
    first = await count(opening, [], False)
    shorter = await count([say("system"), say("user", WORDS // 2)], [], False)
    prompted = await count(opening, [], True)
    if first is None or shorter is None or prompted is None:
        return None
    per_word = max(1.0, (first - shorter) / (WORDS - WORDS // 2))
    tokens = round(per_word * WORDS)
    alone = await count([say("user")], [], False)
    longer = await count([*opening, say("assistant"), say("user")], [], False)
    twice = await count([*opening, say("user")], [], False)
    pair = longer - first - 2 * tokens if longer is not None else 0
    user = twice - first - tokens if twice is not None else pair // 2
    tool, call = await _tools(count, opening, say, tokens, first + 2 * tokens + pair - user)
    overhead = Overhead(
        base=max(0, alone - tokens - user) if alone is not None else 0,
        generation=max(0, prompted - first),
        system=max(0, first - 2 * tokens - user),
        user=max(0, user),
        assistant=max(0, pair - user),
        tool=max(0, tool if tool is not None else user),
        call=max(0, call),
        tools=await _declaring(count, opening, text, per_word, first),
    )
    return overhead, per_word


async def _tools(
    count: Count,
    opening: list[dict[str, object]],
    say: Callable[..., dict[str, object]],
    tokens: int,
    base: int,
) -> tuple[int | None, int]:
    """Overhead of a tool message (None: unknown), and of a tool call on top of an assistant
    message. A text has `tokens`; `base` is the whole conversation without either overhead."""
    call = {
        "id": "theandfor",
        "type": "function",
        "function": {"name": CALLED.decode(), "arguments": "{}"},
    }
    asked = [*opening, say("assistant", tool_calls=[call]), say("tool", tool_call_id="theandfor")]
    one = await count(asked, [], False)
    two = await count([*asked, say("tool", tool_call_id="theandfor")], [], False)
    if one is None:
        return None, 0
    if two is None:
        return None, one - base
    tool = two - one - tokens
    return tool, one - base - tool


async def _declaring(
    count: Count, opening: list[dict[str, object]], text: str, per_word: float, without: int
) -> int:
    """What declaring the tools takes apart from their descriptions; 0 when it is refused."""
    words = 32
    declared = [orjson.loads(CHAT.tool(name, text[: words * 4].encode())) for name in TOOLS]
    tokens = await count(opening, declared, False)
    if tokens is None:
        return 0
    return max(0, tokens - without - round(per_word * words * len(TOOLS)))
