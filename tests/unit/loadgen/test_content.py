import json

import pytest
from hypothesis import given, settings

from loadgen.bound import InfiniteCache
from loadgen.chat_template import ChatTemplate
from loadgen.content import Conversation
from loadgen.layout import Overhead
from loadgen.plan import ContentSettings, Plan
from loadgen.text import WordPool
from loadgen.tokens import StandInTokeniser, render
from loadgen.traces.inspect import inspect_traces
from loadgen.traces.load import load_traces
from loadgen.traces.model import SubAgent, Trace
from loadgen.warm import Warm
from tests.support.shared import shared_path
from tests.support.traces import growing, random_traces, trace, turn

POOL = WordPool(1)
STAND_IN = Overhead(generation=2, system=3, user=3, assistant=3, tool=3, call=15, tools=478)
PLAIN = ContentSettings()
TEMPLATED = ContentSettings(overhead=STAND_IN)


def messages(conversation: Conversation, request: int) -> list[dict[str, object]]:
    fragments = conversation.prompt(request).fragments
    return [json.loads(fragment) for fragment in fragments]


def words(conversation: Conversation, request: int) -> bytes:
    """The prompt as a tokeniser without template sees it: 4 bytes a token."""
    texts = [str(message["content"]) for message in messages(conversation, request)]
    return "".join(texts).encode()


def tokens(conversation: Conversation, request: int) -> bytes:
    """The prompt as the emulated model sees it, 4 bytes a token."""
    tools = [json.loads(tool) for tool in conversation.prompt(request).tools]
    pieces = ChatTemplate().pieces(messages(conversation, request), tools)
    return render(StandInTokeniser(), pieces)


def common_tokens(a: bytes, b: bytes) -> int:
    limit = min(len(a), len(b))
    if a[:limit] == b[:limit]:
        return limit // 4
    low, high = 0, limit
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if a[:middle] == b[:middle] else (low, middle)
    return low // 4


@settings(max_examples=200)
@given(random_traces())
def test_prompts_share_exactly_the_blocks_that_ids_share(made: Trace) -> None:
    conversation = Conversation(Plan(made, PLAIN), POOL)
    size = made.block_size
    # A recorded prompt of no tokens is sent as one word, which shares nothing.
    asked = [(i, t) for i, t in enumerate(made.turns) if t.input_tokens]
    texts = {i: words(conversation, i) for i, _ in asked}
    for i, one in asked:
        assert len(texts[i]) == 4 * one.input_tokens
        for j, other in asked[:i]:
            shared = common_tokens(texts[i], texts[j]) // size
            assert shared == one.blocks.common_prefix(other.blocks)


@given(random_traces())
def test_planned_tokens_are_what_the_template_makes(made: Trace) -> None:
    conversation = Conversation(Plan(made, TEMPLATED), POOL)
    for request in range(len(made.turns)):
        assert conversation.prompt(request).tokens == len(tokens(conversation, request)) // 4


def test_extending_a_prompt_resends_its_messages_byte_for_byte() -> None:
    conversation = Conversation(Plan(growing("a", [70, 150, 260]), TEMPLATED), POOL)
    first, second, third = (conversation.prompt(i).fragments for i in range(3))
    assert second[: len(first)] == first
    assert third[: len(second)] == second


def test_an_extended_prompt_keeps_its_tail() -> None:
    conversation = Conversation(Plan(growing("a", [70, 150]), TEMPLATED), POOL)
    # 64 tokens are whole blocks; the other six have no id, and still are the same text.
    assert common_tokens(tokens(conversation, 0), tokens(conversation, 1)) >= 70


def test_seed_and_play_change_the_text_and_nothing_else_does() -> None:
    made = growing("a", [70, 150])

    def text(seed: int, play: int) -> bytes:
        chosen = ContentSettings(seed)
        return words(Conversation(Plan(made, chosen), WordPool(seed), play), 1)

    assert text(1, 0) == text(1, 0)
    assert len({text(1, 0), text(1, 1), text(2, 0)}) == 3
    assert common_tokens(text(1, 0), text(1, 1)) < 16


@pytest.mark.parametrize(("share", "blocks"), [(0.0, 0), (0.5, 2), (1.0, 5)])
def test_conversations_share_the_warm_part_of_tools_and_system(share: float, blocks: int) -> None:
    made = [trace([turn(160, range(n, n + 10))], f"t{n}", fixed=80) for n in (1, 50)]
    chosen = ContentSettings(warm=Warm.of(made, share))
    one, other = (Conversation(Plan(t, chosen), POOL) for t in made)
    assert common_tokens(words(one, 0), words(other, 0)) // 16 == blocks
    assert one.plan.warm_tokens(0) == ("main", blocks * 16)


def test_sub_agents_share_with_sub_agents_and_not_with_parents() -> None:
    inner = SubAgent("s", 0.0, (turn(96, range(50, 56)),), 64)
    made = trace([turn(96, range(1, 7)), inner, turn(112, range(1, 8))], fixed=64)
    chosen = ContentSettings(warm=Warm.of([made], 1.0))
    one, other = Conversation(Plan(made, chosen), POOL), Conversation(Plan(made, chosen), POOL, 1)
    agent = one.plan.request(1, 0)
    assert common_tokens(words(one, agent), words(other, agent)) // 16 == 4
    assert common_tokens(words(one, agent), words(one, 0)) // 16 == 0
    assert one.plan.warm_tokens(agent)[0] == "subagent"


def test_tokens_per_word_shortens_the_text() -> None:
    made = growing("a", [1600])
    conversation = Conversation(Plan(made, ContentSettings(tokens_per_word=1.25)), POOL)
    assert len(words(conversation, 0)) == pytest.approx(4 * 1600 / 1.25, abs=8)


@pytest.mark.parametrize("share", [0.0, 0.5])
def test_real_prompts_have_the_recorded_tokens_and_blocks(share: float) -> None:
    """Every request of every trace, resets, sub-agents and declared tools included: the tokens of
    the trace but for what no message can be made of."""
    traces = load_traces(shared_path("traces", "traces"), 128_000)
    settings = ContentSettings(warm=Warm.of(traces, share), overhead=STAND_IN)
    for made in traces:
        plan = Plan(made, settings)
        conversation = Conversation(plan, POOL)
        assert conversation.prompt(0).tools
        lanes = [made.turns, *(agent.turns for agent in made.sub_agents)]
        for lane, turns in enumerate(lanes):
            before = b""
            for index, asked in enumerate(turns):
                request = plan.request(lane, index)
                now = tokens(conversation, request)
                assert len(now) // 4 == plan.planned_tokens(request)
                assert 0 <= asked.input_tokens - len(now) // 4 < STAND_IN.closing
                if index:
                    shared = asked.blocks.common_prefix(turns[index - 1].blocks)
                    assert same_blocks(before, now, shared, made.block_size)
                before = now


def test_an_unlimited_cache_hits_as_often_as_the_traces_say() -> None:
    traces = load_traces(shared_path("traces", "traces"))
    hits = sent = 0
    for made in traces:
        plan = Plan(made, TEMPLATED)
        cache = InfiniteCache(made.block_size).play(plan)
        hits += sum(cache.send(turn) // made.block_size for turn in range(len(made.turns)))
        sent += sum(len(turn.blocks) for turn in made.turns)
    assert hits / sent == pytest.approx(inspect_traces(traces)["infinite_cache_hit"], abs=0.001)


def same_blocks(a: bytes, b: bytes, blocks: int, size: int) -> bool:
    """Whether two prompts share exactly so many blocks."""
    end = 4 * blocks * size
    return a[:end] == b[:end] and a[end : end + 4 * size] != b[end : end + 4 * size]
