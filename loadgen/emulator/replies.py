"""What the emulated model says: a function of the prompt's tokens and a seed.

Length: exactly `max_tokens` if given (reason "length"); else, or if it is more and the dialect
makes every client give one, up to 256 tokens (reason "stop"), or to the end of the context with
`ignore_eos`. A tool is called when the client requires it, or with
tool_choice "auto" when the last message is from the user and contains the name of a function.
A call cut short by `max_tokens` is text to those who wait for the whole answer.
"""

import json
import random
from dataclasses import dataclass
from typing import Any, NamedTuple

from xxhash import xxh3_64_intdigest

from loadgen.chat_template import content_text, tool_call_text
from loadgen.emulator.requests import ChatCall, Sampling
from loadgen.engine_model import FinishReason
from loadgen.tokens import TOKEN_BYTES, Tokeniser

NATURAL_TOKENS_MAX = 256

_OPENERS = ("Here", "Next", "Then", "Also", "Look", "Note", "Well", "Sure")
_THREE_LETTERS = (  # words of three letters; with the space before them, one stand-in token each
    "the and for one all can may now run fix add use new set get key map row log api bug app bit "
    "box buf bus cap cmd col cut dir doc end env err few fit fld fmt gap git has how hub job lag "
    "let lib low max min mod net not off old out own put raw ref req res see sum tag tab top"
)
_WORDS = tuple(" " + word for word in _THREE_LETTERS.split())


@dataclass(frozen=True, slots=True)
class ToolCall:
    """`arguments` is JSON text that begins `at` a character of what is printed. `wanted`: auto
    when the model chose to call, required when the client did, named when it chose the function."""

    id: str
    name: str
    arguments: str
    at: int
    wanted: str = "auto"


class Said(NamedTuple):
    """What some tokens say to the client: text, or the name and arguments of a call."""

    text: str = ""
    call: ToolCall | None = None  # it begins here
    arguments: str = ""


@dataclass(frozen=True, slots=True)
class Reply:
    """`tokens` (4 bytes each) is what the engine computes; `text` is what they say, and for a
    tool call what the template would print for it, as far as it got."""

    text: str
    tokens: bytes
    finish_reason: FinishReason
    calling: ToolCall | None = None

    @property
    def count(self) -> int:
        return len(self.tokens) // TOKEN_BYTES

    @property
    def tool_call(self) -> ToolCall | None:
        """The call, if it was not cut short: a parser of whole answers takes the rest for text."""
        return self.calling if self.finish_reason == "stop" else None

    def said(self, start: int, stop: int) -> Said:
        """What tokens [start, stop) say, the text spread evenly over all tokens."""
        length, count, call = len(self.text), self.count, self.calling
        first, end = start * length // count, stop * length // count
        if call is None:
            return Said(self.text[first:end])
        arguments = self.text[max(first, call.at) : min(end, call.at + len(call.arguments))]
        return Said("", call if first < call.at <= end else None, arguments)


class Speaker:
    """Invents replies."""

    def __init__(self, tokeniser: Tokeniser, context_tokens: int, seed: int) -> None:
        self._tokeniser = tokeniser
        self._context_tokens = context_tokens
        self._seed = seed

    def reply(
        self, prompt: bytes, sampling: Sampling, chat: ChatCall | None = None, choice: int = 0
    ) -> Reply:
        """Answer number `choice` to `prompt` (its tokens, 4 bytes each)."""
        key = xxh3_64_intdigest(prompt, self._seed + choice)
        room = self._context_tokens - len(prompt) // TOKEN_BYTES
        assert room >= 1, "the prompt was checked against the context"
        function = _function_to_call(chat) if chat is not None else None
        if function is not None:
            assert chat is not None
            wanted = "named" if chat.tool_choice.name is not None else chat.tool_choice.mode
            return self._calling(function, wanted, key, min(sampling.max_tokens or room, room))
        reason: FinishReason = "length"
        bound = sampling.max_tokens
        if bound is not None and (not sampling.may_end or bound <= NATURAL_TOKENS_MAX):
            count = min(bound, room)
        elif sampling.ignore_eos:
            count = room
        else:
            natural = max(1 + key % NATURAL_TOKENS_MAX, sampling.min_tokens)
            count = min(natural, room)
            reason = "stop" if natural <= room else "length"
        return self._speaking(key, count, reason)

    def _speaking(self, key: int, count: int, reason: FinishReason) -> Reply:
        rng = random.Random(key)
        text = rng.choice(_OPENERS) + "".join(rng.choices(_WORDS, k=count - 1))
        tokens = self._tokeniser.encode(text)
        while len(tokens) < count * TOKEN_BYTES:  # a real vocabulary has longer tokens
            text += "".join(rng.choices(_WORDS, k=count))
            tokens = self._tokeniser.encode(text)
        if len(tokens) > count * TOKEN_BYTES:
            tokens = tokens[: count * TOKEN_BYTES]
            text = self._tokeniser.decode(tokens)
        return Reply(text, tokens, reason)

    def _calling(self, function: dict[str, Any], wanted: str, key: int, tokens_max: int) -> Reply:
        arguments = json.dumps(_arguments(function.get("parameters"), random.Random(key)))
        name = function["name"]
        text = tool_call_text({"name": name, "arguments": arguments})
        call = ToolCall(
            f"chatcmpl-tool-{key:016x}", name, arguments, text.rindex(arguments), wanted
        )
        tokens = self._tokeniser.encode(text)
        if len(tokens) <= tokens_max * TOKEN_BYTES:
            return Reply(text, tokens, "stop", call)
        cut = tokens[: tokens_max * TOKEN_BYTES]
        return Reply(text[: len(text) * len(cut) // len(tokens)], cut, "length", call)


def _function_to_call(chat: ChatCall) -> dict[str, Any] | None:
    choice = chat.tool_choice
    if choice.mode == "none":
        return None
    # Tools that take free text are shown to the model but never called.
    functions: list[dict[str, Any]] = [
        tool["function"] for tool in chat.tools if not tool.get("custom")
    ]
    if choice.mode == "required":
        named = (each for each in functions if choice.name in (None, each["name"]))
        return next(named, None)
    last = chat.messages[-1]
    said = content_text(last.get("content")) if last["role"] == "user" else ""
    return next((function for function in functions if function["name"] in said), None)


def _arguments(schema: object, rng: random.Random) -> dict[str, Any]:
    """Values for the required properties of a JSON schema, or for all if none is required."""
    if not isinstance(schema, dict) or not isinstance(schema.get("properties"), dict):
        return {}
    properties: dict[str, Any] = schema["properties"]
    required = schema.get("required")
    names = [n for n in required if n in properties] if isinstance(required, list) else []
    return {name: _value(properties[name], rng) for name in names or properties}


def _value(schema: object, rng: random.Random) -> Any:
    if not isinstance(schema, dict):
        return None
    if isinstance(schema.get("enum"), list) and schema["enum"]:
        return schema["enum"][0]
    kind = schema.get("type")
    if kind == "object":
        return _arguments(schema, rng)
    simple: dict[object, Any] = {
        "integer": rng.randrange(100),
        "number": rng.randrange(100) / 4,
        "boolean": bool(rng.randrange(2)),
        "array": [],
        "null": None,
    }
    if isinstance(kind, str) and kind in simple:
        return simple[kind]
    return rng.choice(_WORDS).strip()
