"""Answers of /v1/messages."""

from typing import Any

import orjson

from loadgen.emulator.answers import Answer, Hits, sse
from loadgen.emulator.replies import Reply

# The engine's error event is no chunk of a chat, which is all that the layer above can read.
_MISSING = (
    "\n  Field required [type=missing, input_value={'error': {'message': 'En...am': None, "
    "'code': 500}}, input_type=dict]\n"
    "    For further information visit https://errors.pydantic.dev/2.14/v/missing"
)
_BROKEN = (
    f"2 validation errors for ChatCompletionStreamResponse\nmodel{_MISSING}\nchoices{_MISSING}"
)


class MessagesWriter:
    """The engine behind counts prompt tokens whole; here they are split into read from the cache,
    written to it, and the rest. At the start of a stream the split is not known, and
    `message_start` says the whole number in `input_tokens`."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        self._reply = answer.replies[0]
        self._begun = False
        self._block: str | None = None

    def whole(self, hits: Hits) -> dict[str, Any]:
        answer, call = self._answer, self._reply.tool_call
        block: dict[str, Any] = {"type": "text", "text": self._reply.text}
        if call is not None:
            arguments = orjson.loads(call.arguments)
            block = {"type": "tool_use", "id": call.id, "name": call.name, "input": arguments}
        return {
            **_message(answer, [block]),
            "stop_reason": stop_reason(self._reply),
            "usage": self._usage(hits),
            **({"kv_transfer_params": answer.grant} if answer.grant is not None else {}),
        }

    def opening(self) -> bytes:
        return b""

    def tokens(self, hits: Hits, choice: int, start: int, stop: int) -> bytes:
        said = self._reply.said(start, stop)
        data = b"" if self._begun else self._start(hits)
        if said.text:
            if self._block is None:
                data += self._open({"type": "text", "text": ""})
            data += self._delta({"type": "text_delta", "text": said.text})
        if said.call is not None:
            call = {"id": said.call.id, "name": said.call.name}
            data += self._open({"type": "tool_use", **call, "input": {}})
        if said.arguments:
            data += self._delta({"type": "input_json_delta", "partial_json": said.arguments})
        return data

    def closing(self, hits: Hits) -> bytes:
        data = b""
        if self._block is not None:
            data = _event({"type": "content_block_stop", "index": 0})
        delta = {"stop_reason": stop_reason(self._reply), "stop_sequence": None}
        data += _event({"type": "message_delta", "delta": delta, "usage": self._usage(hits)})
        return data + _event({"type": "message_stop"})

    def broken(self) -> bytes:
        return _event({"type": "error", "error": {"type": "internal_error", "message": _BROKEN}})

    def _start(self, hits: Hits) -> bytes:
        self._begun = True
        message = _message(self._answer, []) | {"stop_reason": None, "stop_sequence": None}
        message["usage"] = {"input_tokens": hits.prompt_tokens, "output_tokens": 0}
        return _event({"type": "message_start", "message": message})

    def _open(self, block: dict[str, Any]) -> bytes:
        self._block = block["type"]
        return _event({"type": "content_block_start", "content_block": block, "index": 0})

    def _delta(self, delta: dict[str, Any]) -> bytes:
        return _event({"type": "content_block_delta", "delta": delta, "index": 0})

    def _usage(self, hits: Hits) -> dict[str, Any]:
        read, created = hits.cached_tokens, hits.created_tokens
        return {
            "input_tokens": hits.prompt_tokens - read - created,
            "output_tokens": self._answer.generated_tokens,
            "cache_creation_input_tokens": created,
            "cache_read_input_tokens": read,
        }


def stop_reason(reply: Reply) -> str:
    if reply.finish_reason == "length":
        return "max_tokens"
    return "end_turn" if reply.tool_call is None else "tool_use"


def _message(answer: Answer, content: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "id": answer.id,
        "type": "message",
        "role": "assistant",
        "content": content,
        "model": answer.model,
    }


def _event(payload: dict[str, Any]) -> bytes:
    return sse(payload, payload["type"])
