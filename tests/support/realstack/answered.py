"""Requests that the tiny model answers, of every kind that a client sends."""

from tests.support.realstack.dialogue import TOOLS
from tests.support.realstack.engine import MODEL
from tests.support.realstack.requests import (
    CALLING,
    CHAT_SWITCH,
    MESSAGES,
    MESSAGES_SWITCH,
    MESSAGES_TOOLS,
    MESSAGES_TURNS,
    RESPONSES_ITEMS,
    RESPONSES_SWITCH,
    SYSTEM,
    TOOL_TURNS,
    USAGE,
    Case,
    chat,
    completion,
    get,
    messages,
    responses,
)

_SWITCH_NAMED = {"type": "function", "function": {"name": "switch"}}
_RESPONSES_TOOLS = [{"type": "function", **tool["function"]} for tool in TOOLS]
_BILLING = "x-anthropic-billing-header: cc_version=2.1.90; cc_entrypoint=cli; cch=0a1b2;"

_CHAT = [
    chat("chat"),
    chat("chat-stream", stream=True),
    chat("chat-stream-usage", stream=True, stream_options=USAGE),
    chat("chat-usage-in-every-chunk", stream=True,
         stream_options=USAGE | {"continuous_usage_stats": True}),
    chat("chat-tools", tools=TOOLS, tool_choice="none", messages=TOOL_TURNS),
    chat("chat-tools-auto-stream", tools=TOOLS, tool_choice="auto", stream=True),
    chat("chat-tool-required", tools=[CHAT_SWITCH], tool_choice="required", **CALLING),
    chat("chat-tool-required-stream", tools=[CHAT_SWITCH], tool_choice="required", **CALLING,
         stream=True, stream_options=USAGE),
    chat("chat-tool-named", tools=[CHAT_SWITCH], tool_choice=_SWITCH_NAMED, **CALLING),
    chat("chat-tool-named-stream", tools=[CHAT_SWITCH], tool_choice=_SWITCH_NAMED, **CALLING,
         stream=True),
    chat("chat-tool-required-cut", tools=[CHAT_SWITCH], tool_choice="required", max_tokens=4),
    chat("chat-tool-required-cut-stream", tools=[CHAT_SWITCH], tool_choice="required",
         max_tokens=4, stream=True),
    chat("chat-token-ids", return_token_ids=True),
    chat("chat-token-ids-stream", return_token_ids=True, stream=True),
    chat("chat-salt", cache_salt="tenant-1"),
    chat("chat-session-field", session_id="s-1"),
    chat("chat-logprobs", logprobs=True, top_logprobs=2),
    chat("chat-two-choices", n=2, temperature=0.5, seed=3),
    chat("chat-two-choices-stream", n=2, temperature=0.5, seed=3, stream=True),
    chat("chat-output-cut-to-context", max_tokens=32_768,
         messages=[{"role": "user", "content": "the " * 32_600}]),
    chat("chat-role-unknown", messages=[{"role": "judge", "content": "x"}]),
    chat("chat-parts", messages=[{"role": "user", "content": [{"type": "text", "text": "Hi"}]}]),
]  # fmt: skip

_MESSAGES = [
    messages("messages"),
    messages("messages-stream", stream=True),
    messages("messages-tools", tools=MESSAGES_TOOLS),
    messages("messages-blocks", tools=MESSAGES_TOOLS, messages=MESSAGES_TURNS, system=[
        {"type": "text", "text": _BILLING},
        {"type": "text", "text": SYSTEM, "cache_control": {"type": "ephemeral", "ttl": "1h"}},
    ]),
    messages("messages-tool-any", tools=[MESSAGES_SWITCH], tool_choice={"type": "any"},
             **CALLING),
    messages("messages-tool-any-stream", tools=[MESSAGES_SWITCH], tool_choice={"type": "any"},
             **CALLING, stream=True),
    messages("messages-tool-named", tools=[MESSAGES_SWITCH], **CALLING,
             tool_choice={"type": "tool", "name": "switch"}),
    messages("messages-tool-any-cut", tools=[MESSAGES_SWITCH], tool_choice={"type": "any"},
             max_tokens=4),
    messages("messages-tool-any-cut-stream", tools=[MESSAGES_SWITCH], stream=True,
             tool_choice={"type": "any"}, max_tokens=4),
    Case("messages-count", "/v1/messages/count_tokens",
         {"model": MODEL, "system": SYSTEM, "messages": MESSAGES[1:], "tools": MESSAGES_TOOLS}),
]  # fmt: skip

_RESPONSES = [
    responses("responses", store=False),
    responses("responses-stream", stream=True),
    responses("responses-instructions", instructions=SYSTEM, prompt_cache_key="thread-1",
              metadata={"a": "b"}, reasoning={"effort": "low"}, user="u", truncation="auto",
              parallel_tool_calls=False, service_tier="default", temperature=0.5, top_p=0.9),
    responses("responses-items", input=RESPONSES_ITEMS, tools=_RESPONSES_TOOLS),
    responses("responses-tools-stream", input=RESPONSES_ITEMS, tools=_RESPONSES_TOOLS,
              tool_choice="auto", stream=True),
    responses("responses-tool-required", tools=[RESPONSES_SWITCH], tool_choice="required",
              max_output_tokens=2000, temperature=1),
    responses("responses-tool-required-stream", tools=[RESPONSES_SWITCH], tool_choice="required",
              max_output_tokens=2000, temperature=1, stream=True),
    responses("responses-tool-named", tools=[RESPONSES_SWITCH], max_output_tokens=2000,
              tool_choice={"type": "function", "name": "switch"}, temperature=1),
    responses("responses-tool-required-cut", tools=[RESPONSES_SWITCH], tool_choice="required",
              max_output_tokens=4),
    responses("responses-tool-required-cut-stream", tools=[RESPONSES_SWITCH],
              tool_choice="required", max_output_tokens=4, stream=True),
]  # fmt: skip

_OTHERS = [
    completion("completion"),
    completion("completion-stream", stream=True),
    completion("completion-stream-usage", stream=True, stream_options=USAGE),
    completion("completion-usage-in-every-chunk", stream=True,
               stream_options=USAGE | {"continuous_usage_stats": True}),
    completion("completion-output-cut-to-context", max_tokens=32_768, prompt=[300] * 32_740),
    completion("completion-list", prompt=["one two", "three four"]),
    completion("completion-token-ids", prompt=[300, 301, 302, 303] * 20),
    completion("completion-token-ids-stream", prompt=[300, 301, 302] * 9, stream=True,
               return_token_ids=True),
    completion("completion-echo", echo=True, prompt="echo this"),
    Case("tokenize", "/tokenize", {"model": MODEL, "messages": MESSAGES, "tools": TOOLS}),
    Case("tokenize-strings", "/tokenize", {"prompt": "hello world", "return_token_strs": True}),
    Case("detokenize", "/detokenize", {"model": MODEL, "tokens": [300, 301, 302]}),
    Case("render", "/v1/chat/completions/render", chat("").body),
    Case("render-completion", "/v1/completions/render", completion("").body),
    Case("render-messages", "/v1/messages/render", messages("").body),
    Case("render-responses", "/v1/responses/render", responses("").body),
    get("ping", "/ping"),
    get("load", "/load"),
    get("version", "/version"),
    get("event-sources", "/kv_event_sources"),
]  # fmt: skip

# kvproxy answers these by itself.
ENGINE_ONLY = [get("models", "/v1/models"), get("health", "/health")]

# Asked of an engine that dies while it answers.
BROKEN = [
    chat("broken-chat", stream=True, max_tokens=8000),
    completion("broken-completion", stream=True, max_tokens=8000),
    messages("broken-messages", stream=True, max_tokens=8000),
    responses("broken-responses", stream=True, max_output_tokens=8000),
    chat("broken-chat-whole", max_tokens=8000),
    messages("broken-messages-whole", max_tokens=8000),
    responses("broken-responses-whole", max_output_tokens=8000),
]

ANSWERED = [*_CHAT, *_MESSAGES, *_RESPONSES, *_OTHERS]
