import random

from loadgen.engine.block_store import BlockStore
from loadgen.engine.messages import Request
from loadgen.engine.rates import EngineLimits
from loadgen.engine.sequence import Sequence


def sequence(prompt: int, output: int = 1, seed: int = 0) -> Sequence:
    chain = random.Random(seed).randbytes(8 * ((prompt + output) // 16))
    return Sequence(Request("a", chain, prompt, output), 0.0)


def store(blocks: int, dram_tokens: int = 0) -> BlockStore:
    return BlockStore(EngineLimits(hbm_tokens=16 * blocks, dram_tokens=dram_tokens))


def compute(blocks: BlockStore, one: Sequence) -> None:
    assert blocks.admit(one) is not None
    assert blocks.grow(one, one.known)
    one.computed = one.known


def test_admission_needs_room_for_the_whole_prompt():
    blocks = store(10)
    first = sequence(100, seed=1)
    compute(blocks, first)
    assert blocks.hbm.used_blocks == 7
    assert blocks.admit(sequence(49, seed=2)) is None
    assert blocks.hbm.used_blocks == 7, "a refusal takes nothing"
    assert blocks.admit(sequence(48, seed=2)) == (0, 0, 0)


def test_evictable_hits_count_against_the_room():
    blocks = store(10)
    one = sequence(96, seed=1)
    compute(blocks, one)
    blocks.release(one)
    other = sequence(64, seed=2)
    compute(blocks, other)
    assert blocks.admit(sequence(97, seed=1)) is None, "its 6 blocks and one more: 4 + 7 > 10"
    assert blocks.admit(sequence(96, seed=1)) == (80, 0, 0)


def test_a_sequence_takes_no_block_before_grow_at():
    blocks = store(10)
    one = sequence(20, 60)
    compute(blocks, one)
    assert (one.blocks, one.grow_at) == (2, 32)
    assert blocks.grow(one, 32)
    assert (one.blocks, one.grow_at) == (2, 33)
    assert blocks.grow(one, 33)
    assert (one.blocks, one.grow_at) == (3, 48)


def test_release_keeps_content_and_frees_blocks():
    blocks = store(10)
    one = sequence(100)
    compute(blocks, one)
    blocks.release(one)
    assert blocks.hbm.used_blocks == 0
    assert (one.blocks, one.computed, one.hold) == (0, 0, None)
    assert blocks.admit(one) == (96, 0, 0)


def test_fits_allows_for_second_copies():
    blocks = store(10)
    one = sequence(16, 200)
    compute(blocks, one)
    assert blocks.fits([one], 4 * 16)
    assert not blocks.fits([one], 5 * 16)


def test_only_prompt_chunks_go_to_dram():
    blocks = store(100, dram_tokens=2560)
    one = sequence(700, 400)
    compute(blocks, one)
    assert blocks.grow(one, 1024)
    assert blocks.dram is not None
    assert blocks.dram.lookup(one.chunks, 9) == 2


def test_dram_extends_a_hit_by_whole_chunks():
    blocks = store(100, dram_tokens=2560)
    one = sequence(700)
    compute(blocks, one)
    blocks.release(one)
    assert blocks.hbm.reset()
    again = sequence(700)
    assert blocks.admit(again) == (0, 512, 0)
    assert again.computed == 512
    assert blocks.hbm.match(again.request.chain, 99).blocks == 0, "not valid before it is loaded"
    blocks.loaded(again)
    assert blocks.hbm.match(again.request.chain, 99).blocks == 32
