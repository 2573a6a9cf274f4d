from hypothesis import given

from loadgen.layout import Layout, Message, Overhead, Shape
from loadgen.prefix_tree import PrefixTree
from loadgen.traces.model import Trace
from tests.support.traces import random_traces, trace, turn

OVERHEAD = Overhead(base=1, generation=2, system=4, user=3, assistant=3, tool=4, call=5)


def laid_out(made: Trace, overhead: Overhead) -> tuple[Layout, list[list[Message]]]:
    """The layout, and the messages of each request."""
    prompts = [(t.input_tokens, t.blocks) for t in made.turns]
    tree = PrefixTree(prompts, made.block_size, overhead.generation)
    shapes = [Shape(t.output_tokens, t.tool_result, made.fixed_tokens) for t in made.turns]
    layout = Layout(tree, shapes, overhead)
    asked = []
    for place in layout.places:
        messages: list[Message] = []
        for branch in place.branch.path():
            own = layout.messages[branch.number]
            messages += own[: place.messages] if branch is place.branch else own
        asked.append(messages)
    return layout, asked


@given(random_traces())
def test_messages_cover_the_prompt_without_gap(made: Trace) -> None:
    for overhead in (Overhead(), OVERHEAD):
        layout, asked = laid_out(made, overhead)
        for place, messages in zip(layout.places, asked, strict=True):
            at = 0
            for message in messages:
                assert message.start == at
                assert message.start <= message.text < message.end
                at = message.end
            assert at == place.tokens


@given(random_traces())
def test_without_overhead_every_length_is_exact(made: Trace) -> None:
    layout, _ = laid_out(made, Overhead())
    lengths = [place.tokens for place in layout.places]
    assert lengths == [t.input_tokens for t in made.turns]


@given(random_traces())
def test_with_overhead_lengths_miss_by_less_than_a_message(made: Trace) -> None:
    layout, _ = laid_out(made, OVERHEAD)
    for place, asked in zip(layout.places, made.turns, strict=True):
        if asked.input_tokens > OVERHEAD.base + OVERHEAD.closing + OVERHEAD.generation:
            off = asked.input_tokens - OVERHEAD.generation - place.tokens
            assert 0 <= off < OVERHEAD.closing


@given(random_traces())
def test_roles_follow_each_other_as_an_engine_expects(made: Trace) -> None:
    for messages in laid_out(made, OVERHEAD)[1]:
        for index, message in enumerate(messages):
            before = messages[index - 1] if index else None
            assert (message.role == "system") <= (index == 0)
            if message.role == "tool":
                assert before is not None
                assert (before.role, before.call) == ("assistant", message.call)
            if before is not None and before.role == "assistant" and before.call >= 0:
                assert message.role == "tool"
        if messages:
            assert messages[-1].role != "assistant"


def test_a_turn_is_the_answer_and_the_tool_result() -> None:
    first = turn(64, [1, 2, 3, 4], output_tokens=10)
    second = turn(128, range(1, 9), tool_result=True)
    made = trace([first, second], fixed=20)
    _, asked = laid_out(made, Overhead())
    assert [(m.role, m.start, m.end) for m in asked[1]] == [
        ("system", 0, 20),
        ("user", 20, 64),
        ("assistant", 64, 74),
        ("tool", 74, 128),
    ]


def test_a_rewind_keeps_whole_messages() -> None:
    made = trace([turn(100, range(1, 7)), turn(80, [1, 2, 9, 10, 11])], fixed=10)
    _, (before, after) = laid_out(made, Overhead())
    assert before[:2] == after[:2]
    assert after[1].end == 32


def test_a_resumed_session_opens_with_rounds_of_tool_calls() -> None:
    made = trace([turn(32_000, range(1, 2001))], fixed=1000)
    layout, (messages,) = laid_out(made, OVERHEAD)
    roles = [message.role for message in messages]
    assert roles[:4] == ["system", "user", "assistant", "tool"]
    assert roles[-1] == "user"
    assert len(messages) > 20
    assert max(message.end - message.start for message in messages) <= 4096
    assert layout.places[0].tokens == 32_000 - OVERHEAD.generation
