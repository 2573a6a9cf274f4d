"""KV events as vLLM writes them, from what the engine model tells about its blocks.

Maps with key "type" are those of vLLM 0.24 and later, arrays those before it. Blocks of the DRAM
tier are announced as placeholders, without tokens, as the offloading connector does. SGLang's are
maps too, one a block, with signed hashes; they name no request.
"""

from dataclasses import dataclass
from struct import unpack
from typing import Any, Literal

import msgspec

from loadgen.engine.block_log import BlockLog
from loadgen.engine_model import Request
from loadgen.tokens import TOKEN_BYTES, ids_of

_HASH_BYTES = 8

Style = Literal["map", "array", "sglang"]
HashForm = Literal["int", "bytes", "signed"]


@dataclass(frozen=True, slots=True)
class Prompt:
    """Tokens of prompt and answer, 4 bytes each, and what else the request came with."""

    tokens: bytes
    session: str
    salt: str


@dataclass(frozen=True, slots=True)
class _Told:
    """What an announcement tells of its blocks."""

    tokens: list[int]
    block_size: int
    parent: int | None = None
    extra_keys: list[Any] | None = None
    session: str = ""


_PLACEHOLDER = _Told([], 0)


class BlockEvents(BlockLog):
    """Collects the events of a step; take() gives them as they go into a batch."""

    def __init__(
        self,
        block_size: int,
        *,
        style: Style = "map",
        hashes: HashForm = "int",
        dram_medium: str = "CPU",
        seed: int = 0,
    ) -> None:
        self._block_size = block_size
        self._style = style
        self._hash_form = hashes
        self._dram_medium = dram_medium
        self._seed = seed
        self._events: list[Any] = []
        self._prompts: dict[str, Prompt] = {}
        self._copies: dict[str, list[int]] = {}
        self._chunks: dict[int, list[int]] = {}

    def opened(self, request_id: str, prompt: Prompt) -> None:
        self._prompts[request_id] = prompt

    def closed(self, request_id: str) -> None:
        self._prompts.pop(request_id, None)

    def take(self) -> list[Any]:
        events, self._events = self._events, []
        return events

    def stored(self, request: Request, start: int, stop: int, fresh: int) -> None:
        if start == 0:
            # vLLM computes a chain's start twice only in one step, and then shares it.
            start = stop - fresh
        prompt = self._prompts.get(request.id)
        if start >= stop or prompt is None:
            return
        keys = _words(request.chain, max(0, start - 1), stop)
        parent = keys.pop(0) if start else None
        copies = keys[: stop - start - fresh]
        if copies:
            self._copies.setdefault(request.id, []).extend(copies)
        width = self._block_size * TOKEN_BYTES
        extra: list[Any] = [None] * len(keys)
        if not start and prompt.salt:
            extra[0] = [prompt.salt]
        tokens = ids_of(prompt.tokens[start * width : stop * width])
        told = _Told(tokens, self._block_size, parent, extra, prompt.session)
        self._store(keys, "GPU", told)

    def released(self, request: Request) -> None:
        for key in reversed(self._copies.pop(request.id, [])):
            self._remove([key], "GPU")

    def evicted(self, keys: bytes) -> None:
        for key in reversed(_words(keys)):
            self._remove([key], "GPU")

    def cleared(self) -> None:
        self._copies.clear()
        tag = "AllBlocksCleared"
        self._events.append([tag] if self._style == "array" else {"type": tag})

    def chunks_stored(self, request: Request, start: int, stop: int) -> None:
        keys = _words(request.chain, start, stop)
        per_chunk = 256 // self._block_size
        for at in range(0, len(keys), per_chunk):
            chunk = keys[at : at + per_chunk]
            self._chunks[chunk[-1]] = chunk
        for key in keys:
            self._store([key], self._dram_medium, _PLACEHOLDER)

    def chunks_evicted(self, keys: bytes) -> None:
        for key in _words(keys):
            chunk = self._chunks.pop(key, None)
            if chunk is not None:
                self._remove(chunk, self._dram_medium)

    def _store(self, keys: list[int], medium: str, told: _Told) -> None:
        names = [self._name(key) for key in keys]
        above = None if told.parent is None else self._name(told.parent)
        if self._style == "sglang":
            self._events += self._pages(names, above, medium, told)
            return
        if self._style == "array":
            head = ["BlockStored", names, above, told.tokens, told.block_size]
            self._events.append([*head, None, medium, None, told.extra_keys])
            return
        event: dict[str, Any] = {
            "type": "BlockStored",
            "block_hashes": names,
            "parent_block_hash": above,
            "token_ids": told.tokens,
            "block_size": told.block_size,
            "lora_id": None,
            "medium": medium,
            "lora_name": None,
        }
        if told.extra_keys is not None:
            event["extra_keys"] = told.extra_keys
            event |= {"group_idx": 0, "kv_cache_spec_kind": "full_attention"}
        if told.session:
            event["session_id"] = told.session
        self._events.append(event)

    def _pages(
        self, names: list[Any], above: int | bytes | None, medium: str, told: _Told
    ) -> list[Any]:
        size, pages = told.block_size, []
        for at, name in enumerate(names):
            tokens = told.tokens[at * size : (at + 1) * size]
            page = {"type": "BlockStored", "block_hashes": [name], "parent_block_hash": above,
                    "token_ids": tokens, "block_size": size, "lora_id": None,
                    "medium": medium}  # fmt: skip
            if told.extra_keys and told.extra_keys[at]:
                page["cache_salt"] = told.extra_keys[at][0]
            pages.append(page)
            above = name
        return pages

    def _remove(self, keys: list[int], medium: str) -> None:
        names = [self._name(key) for key in keys]
        if self._style == "array":
            self._events.append(["BlockRemoved", names, medium])
        else:
            self._events.append({"type": "BlockRemoved", "block_hashes": names, "medium": medium})

    def _name(self, key: int) -> int | bytes:
        key ^= self._seed
        if self._hash_form == "bytes":
            return key.to_bytes(32, "big")
        if self._hash_form == "signed" and key >= 2**63:
            return key - 2**64
        return key


def batch(at: float, events: list[Any], rank: int = 0) -> bytes:
    """The payload of a message."""
    return msgspec.msgpack.encode([at, events, rank])


def _words(chain: bytes, start: int = 0, stop: int | None = None) -> list[int]:
    part = chain[start * _HASH_BYTES : None if stop is None else stop * _HASH_BYTES]
    return list(unpack(f"<{len(part) // _HASH_BYTES}Q", part))
