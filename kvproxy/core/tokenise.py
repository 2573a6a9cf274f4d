"""What to ask an engine's `/tokenize` for the token ids of a prompt, off the request's path."""

from array import array

import msgspec

from kvproxy.core.spans import object_spans
from kvproxy.core.turn import Turn

# Members of a request that the engine's /tokenize renders the same way.
_RENDERED = (
    *("model", "messages", "tools", "prompt", "add_generation_prompt", "continue_final_message"),
    *("add_special_tokens", "chat_template", "chat_template_kwargs", "mm_processor_kwargs"),
)
_PATHS = ("/v1/chat/completions", "/v1/completions")


class _Answer(msgspec.Struct):
    tokens: list[int]


_ANSWER = msgspec.json.Decoder(_Answer)


def question(path: str, body: bytes) -> bytes | None:
    """The body that asks for the prompt of a request as it was forwarded; None where the engine
    cannot be asked for it."""
    spans = object_spans(body) if path in _PATHS else None
    members = {name: spans[name].raw for name in _RENDERED if name in spans} if spans else {}
    if not members or not members.get("prompt", b'"').startswith(b'"'):
        return None
    parts = [b'"%s":%s' % (name.encode(), raw) for name, raw in members.items()]
    return b"{" + b",".join(parts) + b"}"


def salt_of(turn: Turn) -> str:
    """What keeps its blocks apart from others of the same tokens; mostly empty."""
    raw = turn.members["cache_salt"].raw if "cache_salt" in turn.members else b""
    return msgspec.json.decode(raw, type=str) if raw.startswith(b'"') else ""


def read_tokens(answer: bytes) -> "array[int]":
    """Raises ValueError."""
    try:
        return array("I", _ANSWER.decode(answer).tokens)
    except (msgspec.DecodeError, OverflowError) as error:
        raise ValueError(f"not a list of tokens: {error}") from error
