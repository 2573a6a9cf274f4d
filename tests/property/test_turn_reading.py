"""Resumed reading against reading everything, and what splicing may and may not change."""

import json
from collections.abc import Iterator
from itertools import pairwise
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvproxy.core.canonical import Canonicaliser, Order
from kvproxy.core.dialects.chat import Chat
from kvproxy.core.pieces import Body, Hashing, Pieces
from kvproxy.core.representatives import Representatives
from kvproxy.core.turn import Turn, TurnReader, apply
from tests.support.chat_bodies import (
    Conversation,
    prompt_view,
    same_meaning,
    some_arguments,
    some_message,
    unordered,
)
from tests.support.makers import make_reader

CHAT = Chat()
RANDOMS = st.randoms(use_true_random=False)
FEWER = settings(max_examples=settings().max_examples // 3)


def facts(turn: Turn) -> tuple[object, ...]:
    """All of a turn that does not depend on how it was read."""
    members = {name: span for name, span in turn.members.items() if name != "messages"}
    return (turn.model, turn.stream, turn.chain, turn.splices, members)


def with_shuffles(conversation: Conversation, random: Random) -> bytes:
    return (
        conversation.body() if random.random() < 0.8 else same_meaning(conversation.value(), random)
    )


def in_pieces(body: bytes, random: Random) -> Body:
    """As a client's connection may leave it."""
    if random.random() < 0.5:
        return body
    cuts = sorted(random.randrange(len(body) + 1) for _ in range(random.randrange(4)))
    pieces = [body[start:end] for start, end in pairwise([0, *cuts, len(body)])]
    hashing = Hashing(256)
    for piece in pieces:
        hashing.add(piece)
    return Pieces(pieces, random.choice([hashing, None]))


def turns(random: Random, count: int) -> Iterator[tuple[str, bytes]]:
    """(tenant, body) of a few conversations that go on in turn, two tenants sending some alike."""
    conversations = [("a", Conversation.start(random)), ("b", Conversation.start(random))]
    for _ in range(count):
        tenant, conversation = random.choice(conversations)
        if random.random() < 0.15:
            conversations.append((random.choice("ab"), conversation.fork()))
        conversation.go_on()
        yield tenant, with_shuffles(conversation, random)


@pytest.mark.parametrize("order", list(Order))
@FEWER
@given(random=RANDOMS, max_points=st.sampled_from([0, 1, 2, 1000]))
def test_resumed_reading_equals_reading_everything(
    order: Order, random: Random, max_points: int
) -> None:
    canonicaliser = Canonicaliser(order, Representatives(2**20))
    resuming = TurnReader(canonicaliser, 64, max_points)
    for tenant, body in turns(random, 12):
        resumed = resuming.read(CHAT, tenant, in_pieces(body, random))
        whole = TurnReader(canonicaliser, 64, 0).read(CHAT, tenant, body)
        assert whole.resumed_at == 0
        assert facts(resumed) == facts(whole)
        assert "messages" in whole.members
        assert unordered(apply(body, resumed.splices)) == unordered(body)


def test_random_conversations_do_resume() -> None:
    """The property above would hold for a reader that never resumes."""
    reader = make_reader()
    read = [reader.read(CHAT, t, body).resumed_at for t, body in turns(Random(1), 300)]
    assert sum(at > 0 for at in read) > 100


@FEWER
@given(RANDOMS)
def test_a_growing_conversation_keeps_its_chain(random: Random) -> None:
    reader = make_reader()
    conversation = Conversation.start(random)
    before = reader.read(CHAT, "", conversation.body()).chain
    for _ in range(4):
        conversation.messages.append(some_message(random))
        chain = reader.read(CHAT, "", conversation.body()).chain
        assert len(chain) > len(before)
        assert chain.until(len(before)) == before
        before = chain


@FEWER
@given(RANDOMS)
def test_shuffles_give_the_same_chain_and_the_first_bytes(random: Random) -> None:
    reader = make_reader()
    conversation = Conversation.start(random)
    conversation.messages += [some_message(random) for _ in range(4)]
    first = conversation.body()
    turn = reader.read(CHAT, "", first)
    for _ in range(3):
        other = same_meaning(conversation.value(), random)
        again = reader.read(CHAT, "", other)
        assert again.chain == turn.chain
        assert prompt_view(apply(other, again.splices)) == prompt_view(apply(first, turn.splices))


@FEWER
@given(RANDOMS)
def test_sorted_order_needs_no_memory(random: Random) -> None:
    conversation = Conversation.start(random)
    conversation.messages += [some_message(random) for _ in range(4)]
    views, chains = [], []
    for _ in range(3):
        body = same_meaning(conversation.value(), random)
        turn = make_reader(Order.SORTED).read(CHAT, "", body)
        views.append(prompt_view(apply(body, turn.splices)))
        chains.append(turn.chain)
    assert views[0] == views[1] == views[2]
    assert chains[0] == chains[1] == chains[2]


@FEWER
@given(RANDOMS)
def test_preserve_changes_nothing(random: Random) -> None:
    reader = make_reader(Order.PRESERVE)
    for tenant, body in turns(random, 5):
        assert reader.read(CHAT, tenant, body).splices == []


@FEWER
@given(RANDOMS)
def test_bytes_outside_the_splices_stay(random: Random) -> None:
    reader = make_reader()
    conversation = Conversation.start(random)
    conversation.messages.append(some_message(random))
    reader.read(CHAT, "", conversation.body())
    body = same_meaning(conversation.value(), random)
    splices = reader.read(CHAT, "", body).splices
    forwarded = apply(body, splices)
    at = shift = 0
    for splice in sorted(splices, key=lambda splice: splice.start):
        assert forwarded[at + shift : splice.start + shift] == body[at : splice.start]
        assert forwarded[splice.start + shift :].startswith(splice.new)
        shift += len(splice.new) - (splice.end - splice.start)
        at = splice.end
    assert forwarded[at + shift :] == body[at:]


@FEWER
@given(RANDOMS, st.data())
def test_changes_of_meaning_change_the_chain(random: Random, data: st.DataObject) -> None:
    reader = make_reader()
    conversation = Conversation.start(random)
    conversation.messages += [
        some_message(random),
        {"role": "user", "content": "now this"},
        tool_call({"path": "a", "limit": 20}),
    ]
    before = reader.read(CHAT, "", conversation.body()).chain
    change = data.draw(st.sampled_from(sorted(CHANGES)))
    value = json.loads(json.dumps(conversation.value()))
    if CHANGES[change](value) is False:
        return
    after = reader.read(CHAT, "", json.dumps(value).encode()).chain
    assert after.end != before.end, change


def tool_call(arguments: object) -> dict[str, object]:
    function = {"name": "read", "arguments": json.dumps(arguments)}
    return {
        "role": "assistant",
        "tool_calls": [{"id": "c", "type": "function", "function": function}],
    }


def _change_tool(value: dict) -> bool | None:  # type: ignore[type-arg]
    if not value.get("tools"):
        return False
    value["tools"][0]["function"]["description"] += "!"
    return None


def _drop_tool(value: dict) -> bool | None:  # type: ignore[type-arg]
    return value["tools"].pop() and None if value.get("tools") else False


CHANGES = {
    "text": lambda v: v["messages"][-2].update(content="now that"),
    "trailing space": lambda v: v["messages"][-2].update(content="now this "),
    "role": lambda v: v["messages"][-2].update(role="system"),
    "split text": lambda v: v["messages"][-2].update(
        content=[{"type": "text", "text": "now "}, {"type": "text", "text": "this"}]
    ),
    "number form": lambda v: v["messages"].__setitem__(-1, tool_call({"path": "a", "limit": 20.0})),
    "argument": lambda v: v["messages"].__setitem__(-1, tool_call({"path": "b", "limit": 20})),
    "argument key": lambda v: v["messages"].__setitem__(-1, tool_call({"path": "a", "Limit": 20})),
    "call name": lambda v: v["messages"][-1]["tool_calls"][0]["function"].update(name="grep"),
    "message order": lambda v: v["messages"].reverse(),
    "message gone": lambda v: v["messages"].pop(),
    "message more": lambda v: v["messages"].append({"role": "user", "content": ""}),
    "salt": lambda v: v.update(cache_salt="s2"),
    "template arguments": lambda v: v.update(chat_template_kwargs={"enable_thinking": False}),
    "model": lambda v: v.update(model="third"),
    "tool": _change_tool,
    "tool gone": _drop_tool,
}


@FEWER
@given(RANDOMS)
def test_tenants_share_nothing(random: Random) -> None:
    reader = make_reader()
    conversation = Conversation.start(random)
    conversation.messages.append(tool_call(some_arguments(random)))
    reader.read(CHAT, "a", conversation.body())
    body = same_meaning(conversation.value(), random)
    other = reader.read(CHAT, "b", body)
    assert other.splices == []
    assert other.resumed_at == 0
    # Whose bytes they are does not matter to an engine: the same prompt is the same prompt.
    third = make_reader(Order.PRESERVE).read(CHAT, "b", conversation.body())
    assert make_reader(Order.PRESERVE).read(CHAT, "a", conversation.body()).chain == third.chain
