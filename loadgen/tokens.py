"""Stand-in tokeniser and chat template: deterministic, injective, no vocabulary.

Text is cut into tokens of 4 UTF-8 bytes, the last one padded with zero bytes; the id of a token
is its bytes as a little-endian integer. NUL in text becomes 0xF8, a byte that UTF-8 never uses,
so that padding stays unambiguous; special tokens end in 0xFF, another such byte. Text starts on a
fresh token after each special token, so the tokens of a message depend on that message alone.
"""

import struct
from collections.abc import Iterable, Sequence
from importlib import import_module
from pathlib import Path
from struct import pack
from typing import Any, Protocol

TOKEN_BYTES = 4
SPECIAL_FIRST = 0xFF000000
SPECIAL_TOKENS = (
    "<|im_start|>",
    "<|im_end|>",
    "<|system|>",
    "<|user|>",
    "<|assistant|>",
    "<|tool|>",
    "<|tools|>",
    "<|endoftext|>",
)

_SPECIAL_BYTES = {
    name: pack("<I", SPECIAL_FIRST + index) for index, name in enumerate(SPECIAL_TOKENS)
}
_SPECIAL_NAMES = {token: name for name, token in _SPECIAL_BYTES.items()}
_NUL, _NUL_STAND_IN = b"\x00", b"\xf8"

MESSAGE_OVERHEAD_TOKENS = 3  # <|im_start|> <|role|> ... <|im_end|>, for every role
GENERATION_PROMPT_TOKENS = 2  # <|im_start|> <|assistant|>


class Special(str):
    """A piece of a rendered prompt that is one special token."""

    __slots__ = ()


class Tokeniser(Protocol):
    """Token ids as bytes, 4 a token, little-endian."""

    def encode(self, text: str) -> bytes: ...

    def special(self, name: str) -> bytes: ...

    def decode(self, tokens: bytes) -> str: ...


class StandInTokeniser:
    """4 UTF-8 bytes a token."""

    def encode(self, text: str) -> bytes:
        data = text.encode("utf-8", "surrogatepass").replace(_NUL, _NUL_STAND_IN)
        return data + bytes(-len(data) % TOKEN_BYTES)

    def special(self, name: str) -> bytes:
        return _SPECIAL_BYTES[name]

    def decode(self, tokens: bytes) -> str:
        """Text of tokens, special tokens by name; bytes that are not UTF-8 are replaced."""
        parts: list[str] = []
        start = 0
        for at in range(0, len(tokens), TOKEN_BYTES):
            if tokens[at + 3] == 0xFF:
                token = tokens[at : at + TOKEN_BYTES]
                parts.append(_text(tokens[start:at]))
                parts.append(_SPECIAL_NAMES.get(token, "\ufffd"))
                start = at + TOKEN_BYTES
        parts.append(_text(tokens[start:]))
        return "".join(parts)


class VocabularyTokeniser:
    """A real tokeniser from the `tokenizer.json` in `directory`, through package `tokenizers`.

    The template's special tokens are used where the vocabulary has them, and are encoded as text
    where it has not. Raises ValueError if the package or the file is missing.
    """

    def __init__(self, directory: str) -> None:
        try:
            package = import_module("tokenizers")  # optional, so imported only when asked for
        except ImportError as error:
            raise ValueError(
                "a tokenizer directory needs the package `tokenizers`: pip install tokenizers"
            ) from error
        path = Path(directory) / "tokenizer.json"
        if not path.is_file():
            raise ValueError(f"{path} is not a file")
        self._tokenizer: Any = package.Tokenizer.from_file(str(path))

    def encode(self, text: str) -> bytes:
        return ids_to_bytes(self._tokenizer.encode(text, add_special_tokens=False).ids)

    def special(self, name: str) -> bytes:
        known = self._tokenizer.token_to_id(name)
        return pack("<I", known) if known is not None else self.encode(name)

    def decode(self, tokens: bytes) -> str:
        text = self._tokenizer.decode(ids_of(tokens), skip_special_tokens=False)
        assert isinstance(text, str)
        return text


def render(tokeniser: Tokeniser, pieces: Iterable[str]) -> bytes:
    """Tokens of a rendered prompt, each piece starting on a fresh token."""
    return b"".join(
        tokeniser.special(piece) if isinstance(piece, Special) else tokeniser.encode(piece)
        for piece in pieces
    )


def ids_of(tokens: bytes) -> list[int]:
    """Token ids as integers."""
    return memoryview(tokens).cast("I").tolist()


def ids_to_bytes(ids: Sequence[int]) -> bytes:
    """Inverse of `ids_of`; raises ValueError for an id outside [0, 2**32)."""
    try:
        return pack(f"<{len(ids)}I", *ids)
    except struct.error as error:
        raise ValueError("token ids must be integers from 0 to 2**32 - 1") from error


def _text(tokens: bytes) -> str:
    # Padding may stand before any special token, not only at the end.
    return tokens.replace(_NUL, b"").replace(_NUL_STAND_IN, _NUL).decode("utf-8", "replace")
