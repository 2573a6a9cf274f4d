import json
from dataclasses import replace

import pytest

from loadgen.chat_template import message_text
from loadgen.emulator.replies import NATURAL_TOKENS_MAX, Reply, Said, Speaker, ToolCall
from loadgen.emulator.requests import chat_call
from loadgen.tokens import StandInTokeniser

PROMPT = b"abcd" * 100
TOOLS = [
    {"type": "function", "function": {"name": "look", "parameters": {}}},
    {
        "type": "function",
        "function": {
            "name": "read_file",
            "parameters": {
                "type": "object",
                "properties": {
                    "path": {"type": "string"},
                    "limit": {"type": "integer"},
                    "mode": {"enum": ["r", "w"]},
                    "deep": {"type": "object"},
                },
                "required": ["path", "limit", "mode", "deep", "absent"],
            },
        },
    },
]


def speaker(context_tokens: int = 10_000, seed: int = 0) -> Speaker:
    return Speaker(StandInTokeniser(), context_tokens, seed)


def sampling(**fields: object):
    return chat_call({"messages": [{"role": "user", "content": "x"}]} | fields).sampling


def chat(text: str, **fields: object):
    return chat_call({"messages": [{"role": "user", "content": text}], "tools": TOOLS} | fields)


def say(call) -> object:
    return speaker().reply(PROMPT, call.sampling, call)


def test_replies_depend_on_prompt_and_seed_alone():
    first = speaker().reply(PROMPT, sampling(max_tokens=20))
    assert speaker().reply(PROMPT, sampling(max_tokens=20, temperature=0.5)) == first
    assert speaker(seed=1).reply(PROMPT, sampling(max_tokens=20)) != first
    assert speaker().reply(PROMPT + b"x\0\0\0", sampling(max_tokens=20)) != first


@pytest.mark.parametrize("count", [1, 2, 17, 300])
def test_max_tokens_is_exact(count):
    reply = speaker().reply(PROMPT, sampling(max_tokens=count))
    assert (reply.count, len(reply.text), reply.finish_reason) == (count, 4 * count, "length")
    assert reply.tokens == reply.text.encode()


def test_natural_length():
    counts = set()
    for index in range(50):
        reply = speaker().reply(PROMPT + bytes([index, 0, 0, 0]), sampling())
        assert 1 <= reply.count <= NATURAL_TOKENS_MAX
        assert reply.finish_reason == "stop"
        counts.add(reply.count)
    assert len(counts) > 25
    assert speaker().reply(PROMPT, sampling(min_tokens=999)).count == 999


def test_the_context_ends_a_reply():
    assert speaker(130).reply(PROMPT, sampling(ignore_eos=True)).count == 30
    reply = speaker(101).reply(PROMPT, sampling(min_tokens=50))
    assert (reply.count, reply.finish_reason) == (1, "length")


def test_a_bound_that_every_client_must_set_is_not_a_length():
    far = replace(sampling(max_tokens=9000), may_end=True)
    assert speaker().reply(PROMPT, far).finish_reason == "stop"
    assert speaker().reply(PROMPT, replace(far, max_tokens=7)).count == 7


def test_choices_differ():
    first, second = (speaker().reply(PROMPT, sampling(max_tokens=9), None, at) for at in (0, 1))
    assert first.text != second.text


def test_text_is_spread_over_tokens():
    reply = Reply("abcdefg", b"abcd" * 3, "stop")
    pieces = [reply.said(at, at + 1) for at in range(3)]
    assert [len(piece.text) for piece in pieces] == [2, 2, 3]
    assert "".join(piece.text for piece in pieces) == "abcdefg"


def test_a_call_is_named_once_and_its_arguments_are_what_stands_between():
    call = ToolCall("id", "f", "{12}", at=6)
    reply = Reply("<call>{12}</call>", b"abcd" * 17, "stop", call)
    said = [reply.said(at, at + 1) for at in range(17)]
    assert [index for index, one in enumerate(said) if one.call] == [5]
    assert "".join(one.arguments for one in said) == "{12}"
    assert reply.said(0, 17) == Said("", call, "{12}")
    assert not any(one.text for one in said)


def test_a_required_call():
    reply = say(chat("go", tool_choice="required"))
    assert reply.tool_call.name == "look"
    assert (reply.tool_call.arguments, reply.finish_reason) == ("{}", "stop")
    assert reply.tool_call.wanted == "required"


def test_arguments_follow_the_schema():
    reply = say(chat("go", tool_choice={"function": {"name": "read_file"}}))
    arguments = json.loads(reply.tool_call.arguments)
    assert reply.tool_call.wanted == "named"
    assert arguments.keys() == {"path", "limit", "mode", "deep"}
    assert isinstance(arguments["path"], str)
    assert isinstance(arguments["limit"], int)
    assert (arguments["mode"], arguments["deep"]) == ("r", {})


def test_auto_calls_the_function_that_the_user_names():
    assert say(chat("please read_file now")).tool_call.name == "read_file"
    assert say(chat("hello")).tool_call is None
    assert say(chat("please read_file now", tool_choice="none")).tool_call is None


def test_a_call_sent_back_renders_to_what_was_generated():
    reply = say(chat("read_file"))
    call = {"function": {"name": reply.tool_call.name, "arguments": reply.tool_call.arguments}}
    message = {"role": "assistant", "content": None, "tool_calls": [call]}
    assert StandInTokeniser().encode(message_text(message)) == reply.tokens


def test_a_call_can_be_cut_by_max_tokens():
    reply = say(chat("read_file", max_tokens=5))
    assert (reply.count, reply.finish_reason) == (5, "length")
    assert reply.tool_call is None, "half a call is text"
    assert reply.text.startswith("<tool_call>")
    assert (reply.calling.name, reply.said(0, 5)) == ("read_file", Said())


def test_a_vocabulary_with_longer_tokens_still_gives_exact_counts():
    class Wide(StandInTokeniser):
        """A token for eight characters."""

        def encode(self, text: str) -> bytes:
            return super().encode(text)[: len(text) // 8 * 4]

    reply = Speaker(Wide(), 10_000, 0).reply(PROMPT, sampling(max_tokens=50))
    assert reply.count == 50
