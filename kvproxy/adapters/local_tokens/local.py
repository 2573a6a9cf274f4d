"""Tokenising prompts in a thread, from where the turn before ended.

A tokeniser cuts text at special tokens before anything else, so what stands before the last one has
the same tokens whatever follows. That much of every prompt is kept, by the byte chain it had; the
next turn finds it along its own chain and tokenises what is new.
"""

import asyncio
import logging
from array import array
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import orjson
from jinja2 import TemplateError
from tokenizers import Tokenizer
from xxhash import xxh3_128_digest

from kvproxy.adapters.local_tokens.conversation import UnlikeError
from kvproxy.adapters.local_tokens.template import ChatTemplate
from kvproxy.core.lru import ByteLru
from kvproxy.core.types import Chain

log = logging.getLogger("kvproxy.tokens")

_LOOK_BACK_BLOCKS = 512
_ENTRY_BYTES = 200


class _Begun(NamedTuple):
    """The first `length` characters of a prompt, which end before a special token."""

    length: int
    digest: bytes
    tokens: "array[int]"


class _Done(NamedTuple):
    """`resumed` of the tokens were known; `kept` is None where there is nothing new to keep."""

    tokens: "array[int]"
    kept: _Begun | None = None
    resumed: int = 0


class LocalTokens:
    """`folders` by model. tokens() is None where the engine has to be asked; `resumed` counts
    tokens that were known from the turn before."""

    def __init__(self, folders: Mapping[str, str], max_bytes: int) -> None:
        self._folders = folders
        self._models: dict[str, _Model] = {}
        self._begun: ByteLru[int, _Begun] = ByteLru(max_bytes)
        self._thread = ThreadPoolExecutor(1, "kvproxy-tokens")
        self._failed: set[tuple[str, str]] = set()
        self.resumed = 0

    def start(self) -> None:
        """Reads the folders; raises OSError or ValueError that says which is none."""
        for model, folder in self._folders.items():
            try:
                self._models[model] = _Model(Path(folder))
            except (OSError, ValueError, TemplateError) as error:
                raise ValueError(f"tokens.tokenizers, {model}: {folder}: {error}") from error

    def close(self) -> None:
        self._thread.shutdown(cancel_futures=True)

    async def tokens(self, model: str, path: str, body: bytes, chain: Chain) -> "array[int] | None":
        found = self._models.get(model)
        if found is None:
            return None
        begun = self._find(chain)
        loop = asyncio.get_running_loop()
        try:
            done = await loop.run_in_executor(self._thread, found.tokens, path, body, begun)
        except UnlikeError as error:
            log.debug("a prompt of %s is not tokenised here: %s", model, error)
            return None
        except Exception as error:  # noqa: BLE001 - said below, and the engine knows
            # Templates are programs, and bodies say things that engines read in ways of their own.
            kind = type(error).__name__
            if (model, kind) not in self._failed:
                self._failed.add((model, kind))
                log.warning(
                    "a prompt of %s cannot be tokenised here (%s): the replica is asked",
                    model,
                    kind,
                )
            return None
        self.resumed += done.resumed
        if done.kept is not None and len(chain):
            self._begun.put(chain.end, done.kept, 4 * len(done.kept.tokens) + _ENTRY_BYTES)
        return done.tokens

    def _find(self, chain: Chain) -> _Begun | None:
        hashes = chain.hashes
        for end in range(len(hashes), max(0, len(hashes) - _LOOK_BACK_BLOCKS), -1):
            begun = self._begun.get(hashes[end - 1])
            if begun is not None:
                return begun
        return None


class _Model:
    """One model's tokeniser and template. tokens() runs in the thread."""

    def __init__(self, folder: Path) -> None:
        path = folder / "tokenizer.json"
        if not path.exists():
            raise ValueError("it has no tokenizer.json")
        try:
            self._tokeniser = Tokenizer.from_file(str(path))
        except Exception as error:
            raise ValueError(f"tokenizer.json: {error}") from error
        self._template = ChatTemplate(folder)
        # One that strips or normalises its surroundings is no clean cut.
        self._special = [
            token.content
            for token in self._tokeniser.get_added_tokens_decoder().values()
            if token.special
            and not (token.normalized or token.lstrip or token.rstrip or token.single_word)
        ]

    def tokens(self, path: str, body: bytes, begun: _Begun | None) -> _Done:
        request: Any = orjson.loads(body)
        if path == "/v1/completions":
            prompt = request.get("prompt")
            if not isinstance(prompt, str):
                raise UnlikeError("its prompt is no text")
            special = bool(request.get("add_special_tokens", True))
            return _Done(self._encode(prompt, add_special_tokens=special))
        if path != "/v1/chat/completions":
            raise UnlikeError("it is converted first")
        text = self._template.render(request)
        if request.get("add_special_tokens"):
            return _Done(self._encode(text, add_special_tokens=True))
        tokens, start = array("I"), 0
        if begun is not None and _digest(text[: begun.length]) == begun.digest:
            tokens, start = begun.tokens[:], begun.length
        resumed = len(tokens)
        cut = max((text.rfind(token, start) for token in self._special), default=-1)
        kept = None
        if cut > start:
            tokens.extend(self._encode(text[start:cut]))
            kept = _Begun(cut, _digest(text[:cut]), tokens[:])
            start = cut
        tokens.extend(self._encode(text[start:]))
        return _Done(tokens, kept, resumed)

    def _encode(self, text: str, *, add_special_tokens: bool = False) -> "array[int]":
        # A batch is encoded without the interpreter's lock, a single text is not.
        [encoded] = self._tokeniser.encode_batch_fast([text], add_special_tokens=add_special_tokens)
        return array("I", encoded.ids)


def _digest(text: str) -> bytes:
    return xxh3_128_digest(text.encode("utf-8", "surrogatepass"))
