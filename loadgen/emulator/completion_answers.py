"""Answers of /v1/completions."""

from typing import Any

from loadgen.emulator import errors
from loadgen.emulator.answers import DONE, FINGERPRINT, Answer, Hits, sse, usage, whole_usage
from loadgen.tokens import Tokeniser


class CompletionWriter:
    """`tokeniser` prints the prompt for clients who want it repeated."""

    def __init__(self, answer: Answer, tokeniser: Tokeniser) -> None:
        self._answer = answer
        self._tokeniser = tokeniser

    def whole(self, hits: Hits) -> dict[str, Any]:
        answer = self._answer
        return {
            **self._head(),
            "choices": [self._choice(index) for index in range(len(answer.replies))],
            "service_tier": None,
            "system_fingerprint": FINGERPRINT,
            "usage": whole_usage(hits, answer.generated_tokens, None),
            "kv_transfer_params": answer.grant,
            "ec_transfer_params": None,
            "metrics": None,
        }

    def opening(self) -> bytes:
        return b""

    def tokens(self, hits: Hits, choice: int, start: int, stop: int) -> bytes:
        reply = self._answer.replies[choice]
        part = {
            "index": choice,
            "text": (self._echoed(choice) if start == 0 else "") + reply.said(start, stop).text,
            "logprobs": None,
            "finish_reason": reply.finish_reason if stop == reply.count else None,
            "stop_reason": None,
            "prompt_token_ids": self._answer.prompt_token_ids(choice) if start == 0 else None,
            "token_ids": self._answer.token_ids(choice, start, stop),
        }
        chunk = self._head() | {"choices": [part]}
        if self._answer.sampling.continuous_usage:
            chunk["usage"] = usage(hits, stop)
        if stop == reply.count and not self._answer.sampling.include_usage:
            chunk["system_fingerprint"] = FINGERPRINT
        return sse(chunk)

    def closing(self, hits: Hits) -> bytes:
        if not self._answer.sampling.include_usage:
            return DONE
        details = {"cached_tokens": hits.cached_tokens}
        counted = usage(hits, self._answer.generated_tokens) | {"prompt_tokens_details": details}
        chunk = self._head() | {"choices": [], "usage": counted}
        return sse(chunk | {"system_fingerprint": FINGERPRINT}) + DONE

    def broken(self) -> bytes:
        return sse(errors.engine_dead().body()) + DONE

    def _head(self) -> dict[str, Any]:
        answer = self._answer
        return {
            "id": answer.id,
            "object": "text_completion",
            "created": answer.created,
            "model": answer.model,
        }

    def _choice(self, index: int) -> dict[str, Any]:
        reply = self._answer.replies[index]
        return {
            "index": index,
            "text": self._echoed(index) + reply.text,
            "logprobs": None,
            "finish_reason": reply.finish_reason,
            "stop_reason": None,
            "token_ids": self._answer.token_ids(index, 0, reply.count),
            "prompt_logprobs": None,
            "prompt_token_ids": self._answer.prompt_token_ids(index),
            "routed_experts": None,
        }

    def _echoed(self, index: int) -> str:
        echo = self._answer.sampling.echo
        return self._tokeniser.decode(self._answer.prompt(index)) if echo else ""
