from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest

from loadgen.calibrate import measure
from loadgen.chat_template import ChatTemplate
from loadgen.layout import Overhead
from loadgen.text import WordPool
from loadgen.tokens import StandInTokeniser, render

POOL = WordPool(1)
Messages = list[dict[str, object]]


async def stand_in(messages: Messages, tools: list[Any], generation: bool) -> int | None:
    pieces = ChatTemplate().pieces(messages, tools, generation_prompt=generation)
    return len(render(StandInTokeniser(), pieces)) // 4


async def test_the_stand_in_template_is_measured_exactly() -> None:
    call = 15  # "\n<tool_call>…</tool_call>" of a call without arguments
    overhead = Overhead(generation=2, system=3, user=3, assistant=3, tool=3, call=call)
    measured = await measure(stand_in, POOL)
    assert measured is not None
    assert (replace(measured[0], tools=0), measured[1]) == (overhead, 1.0)
    assert 200 < measured[0].tools < 1000


async def test_a_tokeniser_that_splits_words_and_a_template_with_a_preamble() -> None:
    async def count(messages: Messages, tools: list[Any], generation: bool) -> int | None:
        words = sum(len(str(message["content"])) // 4 for message in messages)
        if tools:
            return None
        return 10 + 4 * len(messages) + words * 5 // 4 + 3 * generation

    measured = await measure(count, POOL)
    assert measured is not None
    overhead, per_word = measured
    assert per_word == pytest.approx(1.25)
    assert (overhead.base, overhead.system, overhead.user) == (10, 14, 4)
    assert (overhead.generation, overhead.assistant, overhead.tool, overhead.call) == (3, 4, 4, 0)
    assert overhead.tools == 0


async def test_a_template_that_refuses_tools_and_repeated_roles() -> None:
    async def count(messages: Messages, tools: list[Any], generation: bool) -> int | None:
        roles = [str(message["role"]) for message in messages]
        if "tool" in roles or any(a == b for a, b in pairwise(roles)):
            return None
        return await stand_in(messages, tools, generation)

    measured = await measure(count, POOL)
    assert measured is not None
    overhead = measured[0]
    assert (overhead.user, overhead.assistant, overhead.tool, overhead.call) == (3, 3, 3, 0)


async def test_without_tokenize_there_is_nothing_to_measure() -> None:
    async def count(messages: Messages, tools: list[Any], generation: bool) -> int | None:
        return None

    assert await measure(count, POOL) is None
