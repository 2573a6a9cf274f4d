"""vLLM's answer bodies and stream chunks, key for key.

Values that the emulator never has (logprobs, metrics, ...) are null where vLLM writes null.
"""

from dataclasses import dataclass
from typing import Any

import orjson

from loadgen.emulator.replies import Reply, ToolCall, text_between
from loadgen.emulator.requests import Sampling
from loadgen.emulator.settings import VLLM_VERSION
from loadgen.tokens import TOKEN_BYTES, ids_of

FINGERPRINT = f"vllm-{VLLM_VERSION}-emulated"
DONE = b"data: [DONE]\n\n"


@dataclass(frozen=True, slots=True)
class Hits:
    """Tokens of the prompt, and those that came from either cache tier."""

    prompt_tokens: int
    cached_tokens: int
    block_size: int

    @property
    def created_tokens(self) -> int:
        """Tokens in full blocks that this prompt added to the cache."""
        full = self.prompt_tokens - self.prompt_tokens % self.block_size
        return max(0, full - self.cached_tokens)


@dataclass(frozen=True, slots=True)
class Answer:
    """All that is fixed about an answer before the engine says anything."""

    id: str
    created: int
    model: str
    chat: bool
    sampling: Sampling
    prompt: bytes
    reply: Reply

    @property
    def finish_reason(self) -> str:
        if self.reply.tool_call is not None and self.reply.finish_reason == "stop":
            return "tool_calls"
        return self.reply.finish_reason

    def token_ids(self, start: int, stop: int) -> list[int] | None:
        """Ids of output tokens [start, stop), null unless the client asked for them."""
        if not self.sampling.return_token_ids:
            return None
        return ids_of(self.reply.tokens[start * TOKEN_BYTES : stop * TOKEN_BYTES])

    def prompt_token_ids(self) -> list[int] | None:
        return ids_of(self.prompt) if self.sampling.return_token_ids else None


def sse(payload: dict[str, Any]) -> bytes:
    return b"data: " + orjson.dumps(payload) + b"\n\n"


def body(answer: Answer, hits: Hits) -> dict[str, Any]:
    """The whole answer of a request that does not stream."""
    whole = _head(answer, "chat.completion" if answer.chat else "text_completion")
    whole["choices"] = [_chat_choice(answer) if answer.chat else _text_choice(answer)]
    whole["service_tier"] = None
    whole["system_fingerprint"] = FINGERPRINT
    whole["usage"] = _usage(hits, answer.reply.count) | {
        "prompt_tokens_details": {
            "cached_tokens": hits.cached_tokens,
            "created_cache_tokens": hits.created_tokens if answer.chat else None,
            "multimodal_tokens": None,
        },
        "completion_tokens_details": None,
    }
    if answer.chat:
        whole["prompt_logprobs"] = None
        whole["prompt_token_ids"] = answer.prompt_token_ids()
        whole["prompt_text"] = None
    whole |= {"kv_transfer_params": None, "ec_transfer_params": None, "metrics": None}
    return whole


def role_chunk(answer: Answer, hits: Hits) -> bytes:
    """First chunk of a chat stream; it goes out with the first token."""
    delta = {"role": "assistant", "content": ""}
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": None}
    chunk = _chunk(answer, choice)
    if answer.sampling.continuous_usage:
        chunk["usage"] = _running_usage(hits, 0)
    chunk["prompt_token_ids"] = answer.prompt_token_ids()
    chunk["prompt_text"] = None
    return sse(chunk)


def token_chunk(answer: Answer, hits: Hits, start: int, stop: int) -> bytes:
    """Chunk for output tokens [start, stop); with the last token also the end of the choice.
    Empty for tokens that say nothing to the client, as some around a tool call."""
    last = stop == answer.reply.count
    delta = _delta(answer, start, stop)
    if not delta and not last:
        return b""
    ids = answer.token_ids(start, stop)
    if answer.chat:
        choice: dict[str, Any] = {
            "index": 0,
            "delta": delta,
            "logprobs": None,
            "finish_reason": answer.finish_reason if last else None,
        }
        if last:
            choice["stop_reason"] = None
        choice["token_ids"] = ids
    else:
        choice = {
            "index": 0,
            "text": text_between(answer.reply.text, start, stop, answer.reply.count),
            "logprobs": None,
            "finish_reason": answer.finish_reason if last else None,
            "stop_reason": None,
            "prompt_token_ids": answer.prompt_token_ids() if start == 0 else None,
            "token_ids": ids,
        }
    chunk = _chunk(answer, choice)
    if answer.sampling.continuous_usage:
        chunk["usage"] = _running_usage(hits, stop)
    elif not answer.chat:
        chunk["usage"] = None
    if last and not answer.sampling.include_usage:
        chunk["system_fingerprint"] = FINGERPRINT
    return sse(chunk)


def tool_head_chunk(answer: Answer, call: ToolCall) -> bytes:
    """Names the function; its arguments follow."""
    function = {"name": call.name, "arguments": ""}
    delta = {"tool_calls": [{"id": call.id, "type": "function", "index": 0, "function": function}]}
    choice = {
        "index": 0,
        "delta": delta,
        "logprobs": None,
        "finish_reason": None,
        "token_ids": None,
    }
    return sse(_chunk(answer, choice))


def usage_chunk(answer: Answer, hits: Hits) -> bytes:
    """Last chunk when the client asked for usage."""
    chunk = _head(answer, _chunk_object(answer))
    details = {"cached_tokens": hits.cached_tokens, "created_cache_tokens": hits.created_tokens}
    chunk["choices"] = []
    chunk["usage"] = _usage(hits, answer.reply.count) | {"prompt_tokens_details": details}
    chunk["system_fingerprint"] = FINGERPRINT
    return sse(chunk)


def _head(answer: Answer, kind: str) -> dict[str, Any]:
    return {"id": answer.id, "object": kind, "created": answer.created, "model": answer.model}


def _chunk_object(answer: Answer) -> str:
    return "chat.completion.chunk" if answer.chat else "text_completion"


def _chunk(answer: Answer, choice: dict[str, Any]) -> dict[str, Any]:
    return _head(answer, _chunk_object(answer)) | {"choices": [choice]}


def _delta(answer: Answer, start: int, stop: int) -> dict[str, Any]:
    reply = answer.reply
    if reply.tool_call is None:
        return {"content": text_between(reply.text, start, stop, reply.count)}
    part = text_between(reply.tool_call.arguments, start, stop, reply.count)
    return {"tool_calls": [{"index": 0, "function": {"arguments": part}}]} if part else {}


def _chat_choice(answer: Answer) -> dict[str, Any]:
    call = answer.reply.tool_call
    message: dict[str, Any] = {
        "role": "assistant",
        "content": answer.reply.text if call is None else None,
        "refusal": None,
        "annotations": None,
        "audio": None,
        "function_call": None,
    }
    if call is not None:
        function = {"name": call.name, "arguments": call.arguments}
        message["tool_calls"] = [{"id": call.id, "type": "function", "function": function}]
    message["reasoning"] = None
    return {
        "index": 0,
        "message": message,
        "logprobs": None,
        "finish_reason": answer.finish_reason,
        "stop_reason": None,
        "token_ids": answer.token_ids(0, answer.reply.count),
        "routed_experts": None,
    }


def _text_choice(answer: Answer) -> dict[str, Any]:
    return {
        "index": 0,
        "text": answer.reply.text,
        "logprobs": None,
        "finish_reason": answer.finish_reason,
        "stop_reason": None,
        "token_ids": answer.token_ids(0, answer.reply.count),
        "prompt_logprobs": None,
        "prompt_token_ids": answer.prompt_token_ids(),
        "routed_experts": None,
    }


def _usage(hits: Hits, completion_tokens: int) -> dict[str, Any]:
    return {
        "prompt_tokens": hits.prompt_tokens,
        "total_tokens": hits.prompt_tokens + completion_tokens,
        "completion_tokens": completion_tokens,
    }


def _running_usage(hits: Hits, completion_tokens: int) -> dict[str, Any]:
    return _usage(hits, completion_tokens) | {"completion_tokens_details": None}
