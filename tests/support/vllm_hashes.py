"""vLLM's own block hashes, rebuilt: proof that captured events are read as they were meant."""

import pickle
from collections.abc import Callable, Sequence
from hashlib import sha256

from xxhash import xxh3_128_digest


def cbor(value: object) -> bytes:
    """Canonical CBOR (RFC 8949) of what block hashes are made of."""
    if value is None:
        return b"\xf6"
    if isinstance(value, int):
        return _head(0, value)
    if isinstance(value, bytes):
        return _head(2, len(value)) + value
    if isinstance(value, str):
        text = value.encode()
        return _head(3, len(text)) + text
    assert isinstance(value, tuple)
    return _head(4, len(value)) + b"".join(cbor(each) for each in value)


def _head(kind: int, number: int) -> bytes:
    """The shortest form of a number, with its kind in the upper three bits."""
    if number < 24:
        return bytes((kind << 5 | number,))
    for code, size in ((24, 1), (25, 2), (26, 4), (27, 8)):
        if number < 1 << 8 * size:
            return bytes((kind << 5 | code,)) + number.to_bytes(size, "big")
    raise OverflowError(number)


ALGORITHMS: dict[str, Callable[[object], bytes]] = {
    "sha256": lambda value: sha256(pickle.dumps(value, pickle.HIGHEST_PROTOCOL)).digest(),
    "sha256_cbor": lambda value: sha256(cbor(value)).digest(),
    "xxhash_cbor": lambda value: xxh3_128_digest(cbor(value)),
}


def chain(
    blocks: Sequence[Sequence[int]],
    seed: str,
    salt: str = "",
    *,
    algorithm: str = "sha256",
    tagged: bool = True,
) -> list[int]:
    """The words that events carry: the last 8 bytes of each block's digest. `tagged`: as since
    vLLM 0.31, where a salt is hashed together with its kind."""
    digest = ALGORITHMS[algorithm]
    parent, words = digest(seed), []
    for index, block in enumerate(blocks):
        extra: tuple[object, ...] | None = None
        if salt and not index:
            extra = (("cache_salt", salt),) if tagged else (salt,)
        parent = digest((parent, tuple(block), extra))
        words.append(int.from_bytes(parent[-8:], "big"))
    return words
