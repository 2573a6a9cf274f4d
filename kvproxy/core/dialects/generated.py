"""What a model generated, found in the bytes of its answer: tool calls, and texts that are JSON.

Streams and bodies of one dialect are read by one decoder each; whatever has another shape, such as
an event cut in two at the beginning, is passed over.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import msgspec

from kvproxy.core.spans import Span


class Generated(NamedTuple):
    """JSON as it was generated: `arguments` of tool calls, and whole `texts`."""

    arguments: list[str]
    texts: list[str]


class _Function(msgspec.Struct):
    arguments: str | None = None


class _Call(msgspec.Struct):
    index: int = 0
    function: _Function | None = None


class _Said(msgspec.Struct):
    content: str | None = None
    tool_calls: list[_Call] | None = None


class _Choice(msgspec.Struct):
    index: int = 0
    delta: _Said | None = None
    message: _Said | None = None


class _ChatEvent(msgspec.Struct):
    choices: list[_Choice] = []


class _Block(msgspec.Struct):
    type: str = ""
    text: str | None = None
    input: msgspec.Raw = msgspec.Raw(b"")
    partial_json: str | None = None


class _MessagesEvent(msgspec.Struct):
    index: int = 0
    content_block: _Block | None = None
    delta: _Block | None = None
    content: list[_Block] | None = None


class _Part(msgspec.Struct):
    text: str | None = None


class _Item(msgspec.Struct):
    type: str = ""
    arguments: str | None = None
    content: list[_Part] | None = None


class _ResponsesEvent(msgspec.Struct):
    type: str = ""
    item: _Item | None = None
    output: list[_Item] | None = None


_CHAT = msgspec.json.Decoder(_ChatEvent)
_MESSAGES = msgspec.json.Decoder(_MessagesEvent)
_RESPONSES = msgspec.json.Decoder(_ResponsesEvent)
_Pieces = defaultdict[Any, list[str]]

# What a streamed answer has in it once there is something to remember.
SIGNS = {
    "chat": (b'"tool_calls"',),
    "messages": (b'"tool_use"',),
    "responses": (b'"function_call"',),
}
# What a whole answer has in it then, which may be written with an empty list of calls.
WHOLE_SIGNS = {
    "chat": b'"arguments"',
    "messages": b'"tool_use"',
    "responses": b'"arguments"',
}
# Members of a body that may make the whole answer JSON, and what they have in them when they do:
# clients set how long an answer should be, and how hard to think about it, in the same ones.
_STRUCTURED = {
    "response_format": b"json",
    "structured_outputs": b"",
    "guided_json": b"",
    "output_config": b'"format"',
    "text": b"json",
}


def structured(members: Mapping[str, Span]) -> bool:
    """Whether a body with these members has its whole answer be JSON."""
    if _STRUCTURED.keys().isdisjoint(members):
        return False
    found = members.keys() & _STRUCTURED.keys()
    return any(_STRUCTURED[name] in members[name].raw for name in found)


def generated(dialect: str, answer: bytes) -> Generated:
    """`answer` is a body, or a stream or the end of one."""
    calls: _Pieces = defaultdict(list)
    texts: _Pieces = defaultdict(list)
    _READERS[dialect](_events(answer), calls, texts)
    joined = ["".join(pieces) for pieces in texts.values()]
    return Generated(
        ["".join(pieces) for pieces in calls.values()],
        [text for text in joined if text.lstrip().startswith(("{", "["))],
    )


def _events(answer: bytes) -> Iterator[bytes]:
    if answer.lstrip()[:1] == b"{":
        yield answer
        return
    for line in answer.split(b"\n"):
        if line.startswith(b"data:"):
            yield line[5:]


def _chat(events: Iterator[bytes], calls: _Pieces, texts: _Pieces) -> None:
    for event in _decoded(events, _CHAT):
        for choice in event.choices:
            said = choice.delta or choice.message
            if said is None:
                continue
            if said.content:
                texts[choice.index].append(said.content)
            for at, call in enumerate(said.tool_calls or ()):
                if call.function is not None and call.function.arguments:
                    # Whole messages number no calls.
                    index = call.index if choice.delta is not None else at
                    calls[choice.index, index].append(call.function.arguments)


def _messages(events: Iterator[bytes], calls: _Pieces, texts: _Pieces) -> None:
    for event in _decoded(events, _MESSAGES):
        if event.delta is not None:
            if event.delta.partial_json:
                calls[event.index].append(event.delta.partial_json)
            elif event.delta.text:
                texts[event.index].append(event.delta.text)
        for index, block in enumerate(event.content or ()):
            if block.type == "tool_use" and bytes(block.input):
                calls[index].append(bytes(block.input).decode())
            elif block.text:
                texts[index].append(block.text)


def _responses(events: Iterator[bytes], calls: _Pieces, texts: _Pieces) -> None:
    """Whole items come at their end, and once more with the whole response, which is not read."""
    for event in _decoded(events, _RESPONSES):
        done = [event.item] if event.type == "response.output_item.done" and event.item else []
        for item in done or event.output or ():
            at = len(calls) + len(texts)
            if item.arguments:
                calls[at].append(item.arguments)
            for part in item.content or ():
                if part.text:
                    texts[at].append(part.text)


_Reader = Callable[[Iterator[bytes], _Pieces, _Pieces], None]
_READERS: dict[str, _Reader] = {"chat": _chat, "messages": _messages, "responses": _responses}


def _decoded(events: Iterator[bytes], decoder: Any) -> Iterator[Any]:
    for event in events:
        try:
            yield decoder.decode(event)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            continue
