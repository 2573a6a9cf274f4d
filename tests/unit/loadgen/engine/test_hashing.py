import random

import pytest
from xxhash import xxh3_64_intdigest

from loadgen.engine.hashing import STRIDE_BLOCKS, ChainHasher


def naive_chain(tokens: bytes, block_size: int, salt: str = "") -> list[int]:
    seed = xxh3_64_intdigest(salt.encode()) if salt else 0
    out = []
    for block in range(len(tokens) // (4 * block_size)):
        seed = xxh3_64_intdigest(
            tokens[block * 4 * block_size : (block + 1) * 4 * block_size], seed
        )
        out.append(seed)
    return out


def as_numbers(chain: bytes) -> list[int]:
    return [int.from_bytes(chain[at : at + 8], "little") for at in range(0, len(chain), 8)]


@pytest.mark.parametrize("block_size", [1, 16, 48])
@pytest.mark.parametrize("blocks", [0, 1, STRIDE_BLOCKS - 1, STRIDE_BLOCKS, 3 * STRIDE_BLOCKS + 5])
@pytest.mark.parametrize("salt", ["", "tenant-1"])
def test_equals_the_plain_loop_cold_and_warm(block_size, blocks, salt):
    tokens = random.Random(blocks).randbytes(4 * block_size * blocks + 4 * (block_size - 1))
    hasher = ChainHasher(block_size)
    expected = naive_chain(tokens, block_size, salt)
    assert as_numbers(hasher.chain(tokens, salt)) == expected
    assert as_numbers(hasher.chain(tokens, salt)) == expected


def test_a_longer_prompt_extends_the_chain():
    tokens = random.Random(1).randbytes(4 * 16 * 300)
    hasher = ChainHasher(16)
    short = hasher.chain(tokens[: 4 * 16 * 200])
    assert hasher.chain(tokens).startswith(short)


def test_salt_changes_every_block():
    tokens = bytes(4 * 16 * 5)
    hasher = ChainHasher(16)
    plain, salted = as_numbers(hasher.chain(tokens)), as_numbers(hasher.chain(tokens, "s"))
    assert not set(plain) & set(salted)


def test_memory_is_bounded():
    hasher = ChainHasher(1, strides_max=4)
    for seed in range(20):
        tokens = random.Random(seed).randbytes(4 * STRIDE_BLOCKS * 2)
        assert as_numbers(hasher.chain(tokens)) == naive_chain(tokens, 1)
    assert len(hasher._strides) == 4
