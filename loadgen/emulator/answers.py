"""What every dialect's answer is made of; `*_answers` write it down, key for key as vLLM does.

Values that the emulator never has (logprobs, metrics, ...) are null where vLLM writes null.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import orjson

from loadgen.emulator.replies import Reply
from loadgen.emulator.requests import Sampling
from loadgen.emulator.settings import VLLM_VERSION
from loadgen.tokens import TOKEN_BYTES, ids_of

FINGERPRINT = f"vllm-{VLLM_VERSION}-emulated"
DONE = b"data: [DONE]\n\n"


@dataclass(frozen=True, slots=True)
class Hits:
    """Tokens of the prompts, and those that came from either cache tier; `told`: answers say so.
    What came from a peer counts neither as cached nor as created."""

    prompt_tokens: int
    cached_tokens: int
    block_size: int
    told: bool = True
    remote_tokens: int = 0

    @property
    def created_tokens(self) -> int:
        """Tokens in full blocks that this prompt added to the cache."""
        full = self.prompt_tokens - self.prompt_tokens % self.block_size
        return max(0, full - self.cached_tokens - self.remote_tokens)


@dataclass(frozen=True, slots=True)
class Answer:
    """All that is fixed about an answer before the engine says anything. There are
    `sampling.count` replies to each prompt, one prompt after the other; `grant` tells another
    replica where the prompt's KV is."""

    id: str
    created: int
    model: str
    sampling: Sampling
    prompts: Sequence[bytes]
    replies: Sequence[Reply]
    grant: Mapping[str, Any] | None = None

    @property
    def generated_tokens(self) -> int:
        return sum(reply.count for reply in self.replies)

    def prompt(self, choice: int) -> bytes:
        """Tokens of the prompt that reply number `choice` answers."""
        return self.prompts[choice // self.sampling.count]

    def token_ids(self, choice: int, start: int, stop: int) -> list[int] | None:
        """Ids of output tokens [start, stop), null unless the client asked for them."""
        if not self.sampling.return_token_ids:
            return None
        return ids_of(self.replies[choice].tokens[start * TOKEN_BYTES : stop * TOKEN_BYTES])

    def prompt_token_ids(self, choice: int = 0) -> list[int] | None:
        return ids_of(self.prompt(choice)) if self.sampling.return_token_ids else None


class Writer(Protocol):
    """Writes one answer, whole or as a stream."""

    def whole(self, hits: Hits) -> dict[str, Any]: ...

    def opening(self) -> bytes:
        """What leaves with the headers of a stream, before the engine says anything."""
        ...

    def tokens(self, hits: Hits, choice: int, start: int, stop: int) -> bytes:
        """Output tokens [start, stop) of a reply, and what goes before and after them; empty for
        tokens that say nothing to the client, as some around a tool call."""
        ...

    def closing(self, hits: Hits) -> bytes:
        """What follows the last token of the last reply."""
        ...

    def broken(self) -> bytes | None:
        """What a dead engine's stream ends with; None: it breaks off."""
        ...


@dataclass(frozen=True, slots=True)
class Dialect:
    """How answers are named and written; `named_by_client`: header x-request-id is in the name."""

    prefix: str
    writer: Callable[[Answer], Writer]
    named_by_client: bool = True


def sse(payload: dict[str, Any], event: str | None = None) -> bytes:
    data = b"data: " + orjson.dumps(payload) + b"\n\n"
    return data if event is None else b"event: " + event.encode() + b"\n" + data


def usage(hits: Hits, completion_tokens: int) -> dict[str, Any]:
    """Usage as chat and completions count it."""
    return {
        "prompt_tokens": hits.prompt_tokens,
        "total_tokens": hits.prompt_tokens + completion_tokens,
        "completion_tokens": completion_tokens,
    }


def whole_usage(hits: Hits, completion_tokens: int, created: int | None) -> dict[str, Any]:
    """`created` tokens are counted for chat alone."""
    details = {
        "cached_tokens": hits.cached_tokens,
        "created_cache_tokens": created,
        "multimodal_tokens": None,
    }
    return usage(hits, completion_tokens) | {
        "prompt_tokens_details": details if hits.told else None,
        "completion_tokens_details": None,
    }
