"""Requests that the engine refuses, and those that never get as far as the engine."""

from tests.support.realstack.engine import MODEL
from tests.support.realstack.requests import (
    CHAT_SWITCH,
    MESSAGES_SWITCH,
    RESPONSES_SWITCH,
    USAGE,
    Case,
    chat,
    completion,
    get,
    messages,
    responses,
)

_LONG = [{"role": "user", "content": "word " * 40_000}]

_CHAT = [
    chat("too-long", messages=_LONG),
    chat("too-long-stream", messages=_LONG, stream=True),
    chat("max-tokens-too-big", max_tokens=1_000_000),
    chat("max-tokens-zero", max_tokens=0),
    chat("bad-temperature", temperature=-1),
    chat("bad-top-p", top_p=2),
    chat("min-above-max", min_tokens=9),
    chat("two-choices-greedy", n=2),
    chat("no-choice", n=0),
    chat("wrong-type", max_tokens="many"),
    chat("stream-wrong-type", stream="perhaps"),
    chat("messages-no-list", messages="hello"),
    chat("messages-empty", messages=[]),
    chat("message-no-object", messages=["hello"]),
    chat("role-missing", messages=[{"content": "x"}]),
    chat("name-null", messages=[{"role": "assistant", "content": "x", "name": None}]),
    chat("stream-options-without-stream", stream_options=USAGE),
    chat("tools-empty", tools=[]),
    chat("tool-without-function", tools=[{"type": "function"}]),
    chat("tool-without-name", tools=[{"type": "function", "function": {}}]),
    chat("tool-choice-without-tools", tool_choice="auto"),
    chat("tool-choice-unknown", tools=[CHAT_SWITCH], tool_choice="perhaps"),
    chat("tool-choice-of-no-tool", tools=[CHAT_SWITCH],
         tool_choice={"type": "function", "function": {"name": "f"}}),
    chat("continue-and-generate", continue_final_message=True),
    chat("salt-empty", cache_salt=""),
    Case("missing-messages", "/v1/chat/completions", {"model": MODEL}),
]  # fmt: skip

_MESSAGES = [
    messages("messages-bad-block", messages=[{"role": "user", "content": [{"type": "video"}]}]),
    messages("messages-bad-role", messages=[{"role": "tool", "content": "x"}]),
    messages("messages-too-long", messages=_LONG),
    messages("messages-too-long-stream", messages=_LONG, stream=True),
    messages("messages-max-tokens-zero", max_tokens=0),
    messages("messages-bad-temperature", temperature=-1),
    messages("messages-tool-choice-of-no-tool", tools=[MESSAGES_SWITCH],
             tool_choice={"type": "tool", "name": "f"}),
    Case("messages-missing-max-tokens", "/v1/messages",
         {"model": MODEL, "messages": [{"role": "user", "content": "x"}]}),
    Case("messages-count-unknown-model", "/v1/messages/count_tokens",
         {"model": "nobody", "messages": [{"role": "user", "content": "x"}]}),
]  # fmt: skip

_RESPONSES = [
    responses("responses-too-long", input="word " * 40_000),
    responses("responses-unknown-previous", previous_response_id="resp_0123456789abcdef"),
    responses("responses-bad-temperature", temperature=-1),
    responses("responses-encrypted", input=[
        {"role": "user", "content": "x"},
        {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "b3BhcXVl"},
    ]),
    responses("responses-tool-choice-of-no-tool", tools=[RESPONSES_SWITCH],
              tool_choice={"type": "function", "name": "f"}),
    Case("responses-missing-input", "/v1/responses", {"model": MODEL}),
    get("responses-unknown", "/v1/responses/resp_0123456789abcdef"),
    Case("responses-cancel-unknown", "/v1/responses/resp_0123456789abcdef/cancel"),
]  # fmt: skip

_OTHERS = [
    completion("completion-empty", prompt=""),
    completion("completion-bad-ids", prompt=[2**40]),
    completion("completion-max-tokens-too-big", max_tokens=1_000_000),
    Case("completion-missing-prompt", "/v1/completions", {"model": MODEL}),
    Case("tokenize-nothing", "/tokenize", {"model": MODEL}),
    Case("detokenize-nothing", "/detokenize", {"model": MODEL}),
    Case("detokenize-bad-ids", "/detokenize", {"model": MODEL, "tokens": [-1]}),
    Case("no-such-path", "/v1/nothing", {"model": MODEL}),
    Case("wrong-method", "/v1/models", {"model": MODEL}),
]  # fmt: skip

REFUSED = [*_CHAT, *_MESSAGES, *_RESPONSES, *_OTHERS]

# kvproxy refuses these by itself: no replica could be chosen, or none would take them.
REFUSED_BY_US = [
    chat("unknown-model", model="nobody"),
    messages("messages-unknown-model", model="nobody"),
    Case("messages-bad-json", "/v1/messages", raw=b'{"model": "tiny", "messages": ['),
    responses("responses-unknown-model", model="nobody"),
    Case("bad-json", "/v1/chat/completions", raw=b'{"model": "tiny", "messages": ['),
    Case("empty-body", "/v1/chat/completions", raw=b""),
    Case("not-an-object", "/v1/chat/completions", raw=b"[1]"),
    Case("content-type", "/v1/chat/completions", chat("").body,
         headers={"content-type": "text/plain"}),
]  # fmt: skip
