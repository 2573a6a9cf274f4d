"""Answers of /v1/responses, and the store that lets a response continue an earlier one."""

from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

from loadgen.emulator.answers import Answer, Hits, sse
from loadgen.emulator.responses_requests import ResponsesCall

_ECHOED = ("max_tool_calls", "previous_response_id", "prompt", "user", "metadata", "instructions")
_TOOL_FIELDS = ("allowed_callers", "async", "defer_loading", "description", "output_schema")
_REASONING_FIELDS = ("context", "effort", "generate_summary", "mode", "summary")


@dataclass(frozen=True, slots=True)
class Stored:
    """`messages` are those of the request; what was called or thought is not carried on."""

    response: dict[str, Any]
    messages: list[dict[str, Any]]

    def conversation(self) -> list[dict[str, Any]]:
        said = [
            {"role": "assistant", "content": part["text"]}
            for item in self.response["output"]
            if item["type"] == "message"
            for part in item["content"]
        ]
        return self.messages + said


class ResponseStore:
    """The last `size` responses; 0 keeps none, as vLLM does unless told otherwise."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._stored: OrderedDict[str, Stored] = OrderedDict()

    def get(self, response_id: str) -> Stored | None:
        return self._stored.get(response_id)

    def put(self, stored: Stored) -> None:
        if self._size == 0:
            return
        self._stored[stored.response["id"]] = stored
        if len(self._stored) > self._size:
            self._stored.popitem(last=False)


class ResponsesWriter:
    """`context_tokens` bounds what a client without a limit may get."""

    def __init__(
        self, answer: Answer, call: ResponsesCall, store: ResponseStore, context_tokens: int
    ) -> None:
        self._answer = answer
        self._reply = answer.replies[0]
        self._call = call
        self._store = store
        self._room = context_tokens - len(answer.prompts[0]) // 4
        self._serial = answer.id.removeprefix("resp_")
        self._sequence = 0
        self._item: dict[str, Any] | None = None  # the one that is being streamed

    def whole(self, hits: Hits) -> dict[str, Any]:
        call = self._reply.tool_call
        item = self._message("completed", self._reply.text)
        if call is not None:
            item = self._function_call("completed", call.arguments)
        return self._finished([item], hits)

    def opening(self) -> bytes:
        response = self._response([], "in_progress", None)
        return b"".join(
            self._event(f"response.{kind}", {"response": response})
            for kind in ("created", "in_progress")
        )

    def tokens(self, hits: Hits, choice: int, start: int, stop: int) -> bytes:
        said = self._reply.said(start, stop)
        data = b""
        if said.text:
            if self._item is None:
                data += self._open_text()
            at = {"content_index": 0, "delta": said.text, "item_id": self._item_id()}
            data += self._event(
                "response.output_text.delta", at | {"logprobs": [], "output_index": 0}
            )
        if said.call is not None:
            data += self._open(self._function_call("in_progress", ""))
        if said.arguments:
            at = {"delta": said.arguments, "item_id": self._item_id(), "output_index": 0}
            data += self._event("response.function_call_arguments.delta", at)
        return data

    def closing(self, hits: Hits) -> bytes:
        data, items = b"", []
        if self._item is not None:
            is_text = self._item["type"] == "message"
            data, item = self._close_text() if is_text else self._close_call()
            data += self._event("response.output_item.done", {"item": item, "output_index": 0})
            items.append(item)
        response = self._finished(items, hits)
        return data + self._event("response.completed", {"response": response})

    def broken(self) -> None:
        return None

    def _finished(self, items: list[dict[str, Any]], hits: Hits) -> dict[str, Any]:
        cut = self._reply.finish_reason == "length"
        status = "incomplete" if cut else "completed"
        response = self._response(items, status, _usage(hits, self._reply.count))
        if self._call.store:
            self._store.put(Stored(response, self._call.chat.messages))
        return response

    def _open_text(self) -> bytes:
        data = self._open(self._message("in_progress"))
        none: list[Any] = []
        part = {"annotations": none, "text": "", "type": "output_text", "logprobs": none}
        at = {"content_index": 0, "item_id": self._item_id(), "output_index": 0}
        return data + self._event("response.content_part.added", at | {"part": part})

    def _open(self, item: dict[str, Any]) -> bytes:
        self._item = item
        return self._event("response.output_item.added", {"item": item, "output_index": 0})

    def _close_text(self) -> tuple[bytes, dict[str, Any]]:
        item = self._message("completed", self._reply.text)
        at = {"content_index": 0, "item_id": item["id"]}
        text = at | {"logprobs": [], "output_index": 0}
        part = at | {"output_index": 0, "part": item["content"][0]}
        data = self._event("response.output_text.done", text, text=self._reply.text)
        return data + self._event("response.content_part.done", part), item

    def _close_call(self) -> tuple[bytes, dict[str, Any]]:
        arguments = self._reply.said(0, self._reply.count).arguments
        item = self._function_call("completed", arguments)
        fields = {"arguments": arguments, "item_id": item["id"], "output_index": 0}
        kind = "response.function_call_arguments.done"
        return self._event(kind, fields, name=item["name"]), item

    def _event(self, kind: str, fields: dict[str, Any], **after: str) -> bytes:
        numbered = {**fields, "sequence_number": self._sequence}
        self._sequence += 1
        # The one field that the wire has after the number but before the type.
        if "text" in after:
            numbered["text"] = after.pop("text")
        return sse({**numbered, "type": kind, **after}, kind)

    def _item_id(self) -> str:
        assert self._item is not None, "a delta before its item"
        item_id: str = self._item["id"]
        return item_id

    def _message(self, status: str, text: str | None = None) -> dict[str, Any]:
        part: dict[str, Any] = {
            "annotations": [],
            "text": text,
            "type": "output_text",
            "logprobs": None,
        }
        return {
            "id": f"msg_{self._serial}",
            "content": [] if text is None else [part],
            "role": "assistant",
            "status": status,
            "type": "message",
            "phase": None,
        }

    def _function_call(self, status: str, arguments: str) -> dict[str, Any]:
        call = self._reply.calling
        assert call is not None
        return {
            "arguments": arguments,
            "call_id": call.id,
            "name": call.name,
            "type": "function_call",
            "id": f"fc_{self._serial}",
            "async": None,
            "caller": None,
            "namespace": None,
            "status": status,
        }

    def _response(
        self, items: list[dict[str, Any]], status: str, usage: dict[str, Any] | None
    ) -> dict[str, Any]:
        """A response object; most of it is what the client asked for."""
        fields, sampling = self._call.fields, self._answer.sampling
        echoed = {name: fields.get(name) for name in _ECHOED}
        incomplete = {"reason": "max_output_tokens"} if status == "incomplete" else None
        return {
            "id": self._answer.id,
            "created_at": self._answer.created,
            "incomplete_details": incomplete,
            "instructions": echoed["instructions"],
            "metadata": echoed["metadata"],
            "model": self._answer.model,
            "object": "response",
            "output": items,
            "parallel_tool_calls": fields.get("parallel_tool_calls") is not False,
            "temperature": sampling.temperature,
            "tool_choice": _tool_choice(fields),
            "tools": [_tool(tool) for tool in fields.get("tools") or []],
            "top_p": sampling.top_p,
            "background": bool(fields.get("background")),
            "max_output_tokens": min(sampling.max_tokens or self._room, self._room),
            "max_tool_calls": echoed["max_tool_calls"],
            "previous_response_id": echoed["previous_response_id"],
            "prompt": echoed["prompt"],
            "reasoning": _all_of(fields.get("reasoning"), _REASONING_FIELDS),
            "service_tier": fields.get("service_tier") or "auto",
            "status": status,
            "text": _all_of(fields.get("text"), ("format", "verbosity")),
            "top_logprobs": None,
            "truncation": fields.get("truncation") or "disabled",
            "usage": usage,
            "user": echoed["user"],
            "presence_penalty": fields.get("presence_penalty") or 0.0,
            "frequency_penalty": fields.get("frequency_penalty") or 0.0,
            "kv_transfer_params": self._answer.grant,
            "ec_transfer_params": None,
            "input_messages": None,
            "output_messages": None,
        }


def _usage(hits: Hits, generated: int) -> dict[str, Any]:
    return {
        "input_tokens": hits.prompt_tokens,
        "input_tokens_details": {
            "cached_tokens": hits.cached_tokens,
            "cache_write_tokens": hits.created_tokens,
            "input_tokens_per_turn": [],
            "cached_tokens_per_turn": [],
        },
        "output_tokens": generated,
        "output_tokens_details": {
            "reasoning_tokens": 0,
            "tool_output_tokens": 0,
            "output_tokens_per_turn": [],
            "tool_output_tokens_per_turn": [],
        },
        "total_tokens": hits.prompt_tokens + generated,
    }


def _tool_choice(fields: dict[str, Any]) -> object:
    choice = fields.get("tool_choice") or "auto"
    if not isinstance(choice, dict):
        return choice
    return {"name": choice.get("name"), "type": choice.get("type")}


def _tool(tool: dict[str, Any]) -> dict[str, Any]:
    if tool.get("type") != "function":
        return tool
    head = {name: tool.get(name) for name in ("name", "parameters", "strict", "type")}
    return head | {name: tool.get(name) for name in _TOOL_FIELDS}


def _all_of(given: object, names: tuple[str, ...]) -> dict[str, Any] | None:
    """An object with all its fields, those not given null."""
    return {name: given.get(name) for name in names} if isinstance(given, dict) else None
