"""Answers of /v1/chat/completions."""

from typing import Any

from loadgen.emulator import errors
from loadgen.emulator.answers import DONE, FINGERPRINT, Answer, Hits, sse, usage, whole_usage
from loadgen.emulator.replies import Reply


class ChatWriter:
    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        self._begun = False
        self._chunk_head = self._head("chat.completion.chunk")

    def whole(self, hits: Hits) -> dict[str, Any]:
        answer = self._answer
        return {
            **self._head("chat.completion"),
            "choices": [self._choice(index) for index in range(len(answer.replies))],
            "service_tier": None,
            "system_fingerprint": FINGERPRINT,
            "usage": whole_usage(hits, answer.generated_tokens, hits.created_tokens),
            "prompt_logprobs": None,
            "prompt_token_ids": answer.prompt_token_ids(),
            "prompt_text": None,
            "kv_transfer_params": answer.grant,
            "ec_transfer_params": None,
            "metrics": None,
        }

    def opening(self) -> bytes:
        return b""

    def tokens(self, hits: Hits, choice: int, start: int, stop: int) -> bytes:
        reply = self._answer.replies[choice]
        deltas = _deltas(reply, start, stop)
        last = stop == reply.count
        if last and (reply.calling is not None or not deltas):
            deltas.append({})
        data = b"" if self._begun else self._roles(hits)
        ids = self._answer.token_ids(choice, start, stop)
        for number, delta in enumerate(deltas, 1):
            end = last and number == len(deltas)
            part: dict[str, Any] = {
                "index": choice,
                "delta": delta,
                "logprobs": None,
                "finish_reason": finish_reason(reply) if end else None,
            }
            if end:
                part["stop_reason"] = None
            part["token_ids"] = ids if number == 1 else None
            data += self._chunk(hits, part, stop, end=end)
        return data

    def closing(self, hits: Hits) -> bytes:
        if not self._answer.sampling.include_usage:
            return DONE
        details = {"cached_tokens": hits.cached_tokens, "created_cache_tokens": hits.created_tokens}
        counted = usage(hits, self._answer.generated_tokens)
        counted["prompt_tokens_details"] = details if hits.told else None
        chunk = self._chunk_head | {"choices": [], "usage": counted}
        return sse(chunk | {"system_fingerprint": FINGERPRINT}) + DONE

    def broken(self) -> bytes:
        return sse(errors.engine_dead().body()) + DONE

    def _roles(self, hits: Hits) -> bytes:
        """The first chunk of each choice; all of them go out with the first token."""
        self._begun = True
        delta = {"role": "assistant", "content": ""}
        data = b""
        for index in range(len(self._answer.replies)):
            part = {"index": index, "delta": delta, "logprobs": None, "finish_reason": None}
            chunk = self._counted(hits, part, 0)
            chunk |= {"prompt_token_ids": self._answer.prompt_token_ids(), "prompt_text": None}
            data += sse(chunk)
        return data

    def _chunk(self, hits: Hits, part: dict[str, Any], generated: int, *, end: bool) -> bytes:
        chunk = self._counted(hits, part, generated)
        if end and not self._answer.sampling.include_usage:
            chunk["system_fingerprint"] = FINGERPRINT
        return sse(chunk)

    def _counted(self, hits: Hits, part: dict[str, Any], generated: int) -> dict[str, Any]:
        chunk = self._chunk_head | {"choices": [part]}
        if self._answer.sampling.continuous_usage:
            chunk["usage"] = usage(hits, generated) | {"completion_tokens_details": None}
        return chunk

    def _head(self, kind: str) -> dict[str, Any]:
        answer = self._answer
        return {"id": answer.id, "object": kind, "created": answer.created, "model": answer.model}

    def _choice(self, index: int) -> dict[str, Any]:
        reply = self._answer.replies[index]
        call = reply.tool_call
        message: dict[str, Any] = {
            "role": "assistant",
            "content": _content(reply),
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
            "index": index,
            "message": message,
            "logprobs": None,
            "finish_reason": finish_reason(reply),
            "stop_reason": None,
            "token_ids": self._answer.token_ids(index, 0, reply.count),
            "routed_experts": None,
        }


def finish_reason(reply: Reply) -> str:
    """A call of a function that the client named ends like any text."""
    call = reply.tool_call
    return reply.finish_reason if call is None or call.wanted == "named" else "tool_calls"


def _content(reply: Reply) -> str | None:
    if reply.tool_call is None:
        return reply.text
    return None if reply.tool_call.wanted == "auto" else ""


def _deltas(reply: Reply, start: int, stop: int) -> list[dict[str, Any]]:
    said = reply.said(start, stop)
    deltas: list[dict[str, Any]] = [{"content": said.text}] if said.text else []
    if said.call is not None:
        head = {"id": said.call.id, "type": "function", "index": 0}
        function: dict[str, Any] = {"name": said.call.name}
        deltas.append({"content": None, "tool_calls": [head | {"function": function}]})
    if said.arguments:
        function = {"arguments": said.arguments}
        deltas.append({"content": None, "tool_calls": [{"index": 0, "function": function}]})
    return deltas
