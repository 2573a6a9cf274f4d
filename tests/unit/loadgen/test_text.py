from hypothesis import given
from hypothesis import strategies as st

from loadgen.text import WORD_BYTES, WordPool, owner_id

POOL = WordPool(7)


@given(st.integers(0, 2**64 - 1), st.integers(-(2**63), 2**63 - 1), st.integers(1, 512))
def test_a_block_has_exactly_its_words_and_needs_no_escape(
    owner: int, block: int, words: int
) -> None:
    text = POOL.block_text(owner, block, words)
    assert len(text) == words * WORD_BYTES
    assert len(text.split()) == words
    assert text.replace(b" ", b"").isalpha()


def test_equal_arguments_equal_text_in_another_pool_of_the_seed() -> None:
    assert WordPool(7).block_text(3, 5, 64) == POOL.block_text(3, 5, 64)


def test_seed_owner_and_block_each_change_the_text() -> None:
    texts = {
        POOL.block_text(3, 5, 64),
        POOL.block_text(4, 5, 64),
        POOL.block_text(3, 6, 64),
        WordPool(8).block_text(3, 5, 64),
    }
    assert len(texts) == 4


def test_a_block_is_never_another_block() -> None:
    texts = {POOL.block_text(owner, block, 64) for owner in range(20) for block in range(1000)}
    assert len(texts) == 20_000


def test_owner_ids_are_stable_and_separate_their_parts() -> None:
    assert owner_id(1, "a", 0) == owner_id(1, "a", 0)
    assert owner_id(1, "a1", 0) != owner_id(1, "a", "10")
