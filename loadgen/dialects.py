"""How the four APIs spell the same conversation: chat, completions, messages, responses.

A turn is said once, in our terms, and rendered to the fragments of one dialect; a request joins
fragments. Text is plain words and needs no escape.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import orjson

# Names that agents use; descriptions are filled with the words that tools and system text have.
TOOLS = ("Read", "Write", "Edit", "Bash", "Glob", "Grep", "Task", "WebFetch", "TodoWrite", "Skill")
_SCHEMA = b'{"type":"object","properties":{"path":{"type":"string"}},"required":["path"]}'
CALLED = TOOLS[3].encode()


@dataclass(frozen=True, slots=True)
class Said:
    """One message: `call` is the id of the tool call that an assistant message makes (after its
    text) or a tool message answers, empty for none."""

    role: str
    text: bytes
    call: bytes = b""


@dataclass(frozen=True, slots=True)
class Asked:
    """One request: messages and tools as fragments, `opens` when the first is a system message.
    `exact` asks an engine for exactly `output_tokens`; other endpoints refuse those fields."""

    model: str
    fragments: Sequence[bytes]
    tools: Sequence[bytes]
    opens: bool
    output_tokens: int
    exact: bool


class Dialect(Protocol):
    """`path` is where requests go; the others make JSON."""

    path: str

    def message(self, said: Said) -> bytes: ...

    def tool(self, name: str, text: bytes) -> bytes: ...

    def body(self, asked: Asked) -> bytes: ...


def _quoted(text: str) -> bytes:
    return orjson.dumps(text)


def _exact(asked: Asked) -> bytes:
    return b',"min_tokens":%d,"ignore_eos":true' % asked.output_tokens if asked.exact else b""


def _tools(asked: Asked) -> bytes:
    return b',"tools":[%s]' % b",".join(asked.tools) if asked.tools else b""


class Chat:
    path = "/v1/chat/completions"

    def message(self, said: Said) -> bytes:
        extra = b""
        if said.call and said.role == "assistant":
            extra = (
                b',"tool_calls":[{"id":"%s","type":"function","function":'
                b'{"name":"%s","arguments":"{}"}}]' % (said.call, CALLED)
            )
        elif said.call:
            extra = b',"tool_call_id":"%s"' % said.call
        return b'{"role":"%s","content":"%s"%s}' % (said.role.encode(), said.text, extra)

    def tool(self, name: str, text: bytes) -> bytes:
        function = b'{"name":"%s","description":"%s","parameters":%s}'
        return b'{"type":"function","function":%s}' % (function % (name.encode(), text, _SCHEMA))

    def body(self, asked: Asked) -> bytes:
        return (
            b'{"model":%s%s,"messages":[%s],"max_tokens":%d%s,"temperature":0,"stream":true,'
            b'"stream_options":{"include_usage":true}}'
            % (
                _quoted(asked.model),
                _tools(asked),
                b",".join(asked.fragments),
                asked.output_tokens,
                _exact(asked),
            )
        )


class Completions:
    """Everything as one text: no template, so nothing but the words counts."""

    path = "/v1/completions"

    def message(self, said: Said) -> bytes:
        return said.text

    def tool(self, name: str, text: bytes) -> bytes:
        return text

    def body(self, asked: Asked) -> bytes:
        return (
            b'{"model":%s,"prompt":"%s","max_tokens":%d%s,"temperature":0,"stream":true,'
            b'"stream_options":{"include_usage":true}}'
            % (
                _quoted(asked.model),
                b"".join([*asked.tools, *asked.fragments]),
                asked.output_tokens,
                _exact(asked),
            )
        )


class Messages:
    """Anthropic's: system text and tools beside the messages, results of tools in user messages."""

    path = "/v1/messages"

    def message(self, said: Said) -> bytes:
        text = b'{"type":"text","text":"%s"}' % said.text
        if said.role == "system":
            return text
        if said.role == "tool":
            result = b'{"type":"tool_result","tool_use_id":"%s","content":"%s"}'
            return b'{"role":"user","content":[%s]}' % (result % (said.call, said.text))
        if said.call:
            use = b'{"type":"tool_use","id":"%s","name":"%s","input":{}}' % (said.call, CALLED)
            return b'{"role":"assistant","content":[%s,%s]}' % (text, use)
        return b'{"role":"%s","content":[%s]}' % (said.role.encode(), text)

    def tool(self, name: str, text: bytes) -> bytes:
        tool = b'{"name":"%s","description":"%s","input_schema":%s}'
        return tool % (name.encode(), text, _SCHEMA)

    def body(self, asked: Asked) -> bytes:
        system = b',"system":[%s]' % asked.fragments[0] if asked.opens else b""
        return b'{"model":%s%s%s,"messages":[%s],"max_tokens":%d%s,"stream":true}' % (
            _quoted(asked.model),
            system,
            _tools(asked),
            b",".join(asked.fragments[asked.opens :]),
            asked.output_tokens,
            b',"temperature":0',
        )


class Responses:
    """OpenAI's items: instructions, messages, calls and their outputs in one list."""

    path = "/v1/responses"

    def message(self, said: Said) -> bytes:
        if said.role == "system":
            return said.text
        if said.role == "tool":
            output = b'{"type":"function_call_output","call_id":"%s","output":"%s"}'
            return output % (said.call, said.text)
        kind = b"output_text" if said.role == "assistant" else b"input_text"
        part = b'{"type":"%s","text":"%s"}' % (kind, said.text)
        item = b'{"type":"message","role":"%s","content":[%s]}' % (said.role.encode(), part)
        if not said.call:
            return item
        call = b'{"type":"function_call","call_id":"%s","name":"%s","arguments":"{}"}'
        return item + b"," + call % (said.call, CALLED)

    def tool(self, name: str, text: bytes) -> bytes:
        tool = b'{"type":"function","name":"%s","description":"%s","parameters":%s}'
        return tool % (name.encode(), text, _SCHEMA)

    def body(self, asked: Asked) -> bytes:
        instructions = b',"instructions":"%s"' % asked.fragments[0] if asked.opens else b""
        return (
            b'{"model":%s%s%s,"input":[%s],"max_output_tokens":%d,"temperature":0,'
            b'"store":false,"stream":true}'
            % (
                _quoted(asked.model),
                instructions,
                _tools(asked),
                b",".join(asked.fragments[asked.opens :]),
                asked.output_tokens,
            )
        )


DIALECTS: dict[str, Dialect] = {
    "chat": Chat(),
    "completions": Completions(),
    "messages": Messages(),
    "responses": Responses(),
}
