"""What to ask an engine for the token ids of a prompt, off the request's path."""

from array import array
from typing import NamedTuple

import msgspec

from kvproxy.core.spans import object_spans
from kvproxy.core.turn import Turn

# Members of a request that the engine's /tokenize renders the same way.
_RENDERED = (
    *("model", "messages", "tools", "prompt", "add_generation_prompt", "continue_final_message"),
    *("add_special_tokens", "chat_template", "chat_template_kwargs", "mm_processor_kwargs"),
)
_TOKENISED = ("/v1/chat/completions", "/v1/completions")
# For these there is no /tokenize; engines since vLLM 0.30 render them with --enable-scale-out.
_RENDER_ONLY = ("/v1/messages", "/v1/responses")


class NoPageError(ValueError):
    """The engine has no such page, or not for that model."""


class Question(NamedTuple):
    path: str
    body: bytes


class _Answer(msgspec.Struct):
    tokens: list[int] | None = None
    token_ids: list[int] | None = None


_ANSWER = msgspec.json.Decoder(_Answer)


def question(path: str, body: bytes) -> Question | None:
    """What asks for the prompt of a request as it was forwarded; None where the engine cannot be
    asked for it."""
    if path in _RENDER_ONLY:
        return Question(f"{path}/render", body)
    spans = object_spans(body) if path in _TOKENISED else None
    members = {name: spans[name].raw for name in _RENDERED if name in spans} if spans else {}
    if not members or not members.get("prompt", b'"').startswith(b'"'):
        return None
    parts = [b'"%s":%s' % (name.encode(), raw) for name, raw in members.items()]
    return Question("/tokenize", b"{" + b",".join(parts) + b"}")


def salt_of(turn: Turn) -> str:
    """What keeps its blocks apart from others of the same tokens; mostly empty."""
    raw = turn.members["cache_salt"].raw if "cache_salt" in turn.members else b""
    return msgspec.json.decode(raw, type=str) if raw.startswith(b'"') else ""


def read_tokens(answer: bytes) -> "array[int]":
    """Raises ValueError."""
    try:
        read = _ANSWER.decode(answer)
        tokens = read.token_ids if read.tokens is None else read.tokens
        if tokens is not None:
            return array("I", tokens)
    except (msgspec.DecodeError, OverflowError) as error:
        raise ValueError(f"not a list of tokens: {error}") from error
    raise ValueError("not a list of tokens: there is none")
