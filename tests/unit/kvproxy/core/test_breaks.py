"""Each way a prompt can change, on bodies as clients send them."""

import copy
import json
from bisect import bisect_right
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvproxy.core.breaks import Cause, compare, shared_blocks, shared_segments
from kvproxy.core.canonical import Order
from kvproxy.core.dialects.messages import Messages
from kvproxy.core.types import Chain
from tests.support.makers import make_chain, make_reader

Body = dict[str, Any]
SYSTEM = "You are an agent. Today is Tuesday, 2026-11-24 10:31. Session 7f3a9c. " + "Rules. " * 50


def tool(name: str) -> Body:
    return {"name": name, "description": f"to {name} " * 9, "input_schema": {"type": "object"}}


def said(text: str, role: str = "user") -> Body:
    return {"role": role, "content": f"{text} " * 30}


BASE: Body = {
    "model": "m",
    "system": SYSTEM,
    "tools": [tool("read"), tool("write"), tool("grep")],
    "messages": [said(f"message {n}", ("user", "assistant")[n % 2]) for n in range(9)],
}


def chain_of(body: Body) -> Chain:
    raw = json.dumps(body).encode()
    return make_reader(Order.PRESERVE).read(Messages(), "", raw).chain


def changed(change: Callable[[Body], object]) -> Chain:
    body = copy.deepcopy(BASE)
    change(body)
    return chain_of(body)


CHANGES: dict[str, tuple[Cause, Callable[[Body], object]]] = {
    "nothing": (Cause.GROWN, lambda b: None),
    "a turn more": (Cause.GROWN, lambda b: b["messages"].append(said("more"))),
    "last turn again": (Cause.REWOUND, lambda b: b["messages"].pop()),
    "another model": (Cause.MODEL_CHANGED, lambda b: b.update(model="n")),
    "effort": (Cause.TEMPLATE_CHANGED, lambda b: b.update(output_config={"effort": "high"})),
    "salt": (Cause.TEMPLATE_CHANGED, lambda b: b.update(cache_salt="x")),
    "system text": (Cause.SYSTEM_CHANGED, lambda b: b.update(system=SYSTEM + "More rules.")),
    "no system text": (Cause.SYSTEM_CHANGED, lambda b: b.pop("system")),
    "the time of day": (
        Cause.VOLATILE_TEXT,
        lambda b: b.update(system=SYSTEM.replace("Tuesday", "Friday").replace("10:31", "9:07")),
    ),
    "a number": (Cause.VOLATILE_TEXT, lambda b: b.update(system=SYSTEM.replace("7f3a9c", "04d"))),
    "a tool more": (Cause.TOOLS_CHANGED, lambda b: b["tools"].append(tool("mcp"))),
    "a tool less": (Cause.TOOLS_CHANGED, lambda b: b["tools"].pop(0)),
    "a tool described anew": (
        Cause.TOOLS_CHANGED,
        lambda b: b["tools"][1].update(description="other"),
    ),
    "tools in another order": (Cause.TOOLS_REORDERED, lambda b: b["tools"].reverse()),
    "a summary": (
        Cause.COMPACTION,
        lambda b: b.update(messages=[said("summary of it"), said("go on")]),
    ),
    "a result cleared": (
        Cause.HISTORY_EDITED,
        lambda b: b["messages"][4].update(content="[cleared]"),
    ),
    "the first message edited": (
        Cause.HISTORY_EDITED,
        lambda b: b["messages"][0].update(content="other"),
    ),
    "old messages dropped": (
        Cause.HISTORY_DROPPED,
        lambda b: b.update(messages=[*b["messages"][2:], said("more")]),
    ),
    "a title wanted": (
        Cause.SIDE_CALL,
        lambda b: b.update(system="Write a title.", tools=[], messages=[said("title?")]),
    ),
    "a title wanted of the first message": (
        Cause.SIDE_CALL,
        lambda b: b.update(system="Write a title.", tools=[], messages=[b["messages"][0]]),
    ),
    "the same without a system text": (
        Cause.SIDE_CALL,
        lambda b: (
            b.update(tools=[], messages=[b["messages"][0], said("title?")]) or b.pop("system")
        ),
    ),
    "a summary wanted under another head": (
        Cause.OTHER_HEAD,
        lambda b: b.update(
            system="Summarise.", tools=[], messages=[*b["messages"], said("summary?")]
        ),
    ),
    "a system text of its own for most of the same": (
        Cause.SYSTEM_CHANGED,
        lambda b: b.update(system="You are another agent."),
    ),
    "a small model asked": (
        Cause.SIDE_CALL,
        lambda b: b.update(model="small", messages=[said("title?")]),
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_causes(change: str) -> None:
    cause, make = CHANGES[change]
    assert compare(chain_of(BASE), changed(make)).cause is cause


def test_where_it_broke() -> None:
    before, now = chain_of(BASE), changed(lambda b: b["messages"][4].update(content="[cleared]"))
    broke = compare(before, now)
    # One system text, three tools, four messages.
    assert broke.segment == 8
    assert bisect_right(before.segment_ends, broke.blocks) == 8
    assert before.hashes[broke.blocks] != now.hashes[broke.blocks]


@given(st.lists(st.sampled_from("abc")), st.lists(st.sampled_from("abc")))
def test_what_is_shared(one: list[str], other: list[str]) -> None:
    naive = 0
    while naive < min(len(one), len(other)) and one[naive] == other[naive]:
        naive += 1
    before, now = make_chain(*one), make_chain(*other)
    assert shared_segments(before, now) == naive
    assert shared_blocks(before, now) == naive
    assert shared_segments(make_chain(*one, root=1), now) == 0
