from array import array

from kvproxy.core.event_source import EventSource, Grown, names_of, root
from kvproxy.core.token_chain import TokenChains
from kvproxy.core.word_map import Budget
from tests.support.makers import make_chain
from tests.support.naive_index import stored

SIZE = 16


def nowhere(ours: int) -> None:
    return None


def grow(chains: TokenChains, request: str, parent: int, *hashes: int, replica: str = "r") -> None:
    chains.grown(replica, Grown(request, parent, array("Q", hashes)), SIZE, nowhere)


def test_a_turn_anchors_its_prompt_and_the_next_one_finds_it() -> None:
    chains = TokenChains(2**20)
    first, second = make_chain("one"), make_chain("one", "two")
    chains.opened("a", "r", first)
    grow(chains, "a", root(SIZE), 1, 2, 3)
    assert chains.anchor(first) is None
    chains.finished("a", 2 * SIZE + 5)
    anchor = chains.anchor(second)
    assert anchor is not None
    assert (anchor.byte_blocks, anchor.tokens) == (1, 2 * SIZE + 5)
    assert list(anchor.at.chain()) == [1, 2]
    assert anchor.answer_end == 3

    chains.opened("b", "r", second)
    grow(chains, "b", 2, 4, 5)
    chains.finished("b", 4 * SIZE)
    anchor = chains.anchor(second)
    assert anchor is not None
    assert list(anchor.at.chain()) == [1, 2, 4, 5]
    assert chains.made == 2


def test_blocks_that_come_after_the_answer_complete_the_anchor() -> None:
    chains, chain = TokenChains(2**20), make_chain("one")
    chains.opened("a", "r", chain)
    grow(chains, "a", root(SIZE), 1)
    chains.finished("a", 2 * SIZE)
    assert chains.anchor(chain) is None
    grow(chains, "a", 1, 2)
    anchor = chains.anchor(chain)
    assert anchor is not None
    assert list(anchor.at.chain()) == [1, 2]


def test_without_an_anchor_the_way_back_is_asked_for() -> None:
    chains, chain = TokenChains(2**20), make_chain("one")
    chains.opened("a", "r", chain)
    paths = {7: array("Q", [5, 6, 7])}
    chains.grown("r", Grown("a", 7, array("Q", [8])), SIZE, paths.get)
    chains.finished("a", 4 * SIZE)
    anchor = chains.anchor(chain)
    assert anchor is not None
    assert list(anchor.at.chain()) == [5, 6, 7, 8]


def test_what_cannot_be_tied_is_not() -> None:
    chains, chain = TokenChains(2**20), make_chain("one")
    chains.opened("a", "r", chain)
    grow(chains, "a", 7, 8)
    assert chains.missed == 1
    grow(chains, "a", root(SIZE), 1, replica="other")
    grow(chains, "never opened", root(SIZE), 1)
    chains.finished("a", SIZE)
    chains.finished("never opened", SIZE)
    assert chains.anchor(chain) is None
    assert len(chains) == 0


def test_requests_of_one_id_under_way_at_once_are_not_taken_for_each_other() -> None:
    """A service may pass the id of what it was asked on with all that it asks for that."""
    chains, one, other = TokenChains(2**20), make_chain("one"), make_chain("other")
    assert chains.opened("a", "r", one)
    assert not chains.opened("a", "r", other)
    grow(chains, "a", root(SIZE), 1, 2)
    assert not chains.opened("a", "r", make_chain("third"))
    for _ in range(2):
        chains.finished("a", 2 * SIZE)
    assert chains.anchor(one) is chains.anchor(other) is None
    assert not chains.awaits("r")
    assert not chains.opened("a", "r", other), "the third is still under way"
    for _ in range(2):
        chains.finished("a", 0)
    assert chains.opened("a", "r", one)
    grow(chains, "a", root(SIZE), 1, 2)
    chains.finished("a", 2 * SIZE)
    assert chains.anchor(one) is not None
    assert chains.opened("a", "r", other), "one after the other may have one id"


def test_an_aborted_request_leaves_nothing() -> None:
    chains = TokenChains(2**20)
    chains.opened("a", "r", make_chain("one"))
    grow(chains, "a", root(SIZE), 1, 2)
    chains.finished("a", 0)
    assert chains.bytes == 0


def test_memory_is_bounded_however_many_conversations_come() -> None:
    chains = TokenChains(50_000)
    for number in range(2000):
        chain = make_chain(f"conversation {number}")
        chains.opened(str(number), "r", chain)
        first = number * 100 + 1
        grow(chains, str(number), root(SIZE), *range(first, first + 50))
        chains.finished(str(number), 50 * SIZE)
        assert chains.bytes <= 50_000 + 1000
    assert chains.anchor(make_chain("conversation 1999")) is not None
    assert chains.anchor(make_chain("conversation 0")) is None


def test_what_ended_is_kept_for_its_last_blocks_and_no_longer() -> None:
    """Prompts that were cached whole make no block, so nothing more is heard of them."""
    chains = TokenChains(2**20)
    for number in range(2000):
        chain = make_chain(f"prompt {number}")
        chains.opened(f"id{number}", "r", chain)
        chains.finished(f"id{number}", SIZE)
    assert len(chains._open) == len(chains._ended) == 512
    grow(chains, "id1999", root(SIZE), 1)
    assert chains.anchor(chain) is not None
    # The same id again is another request, which is under way.
    chains.opened("id1999", "r", chain)
    assert "id1999" not in chains._ended
    for number in range(2000):
        chains.opened(f"again{number}", "r", chain)
        chains.finished(f"again{number}", SIZE)
    assert "id1999" in chains._open


def test_a_prompts_own_tokens_anchor_it_where_nobody_named_its_request() -> None:
    chains, first, second = TokenChains(2**20), make_chain("one"), make_chain("one", "two")
    tokens = array("I", range(3 * SIZE + 5))
    names = list(names_of(tokens, SIZE))
    chains.tokenised(first, 2 * SIZE + 3, array("Q", names[:2]), SIZE)
    anchor = chains.anchor(second)
    assert anchor is not None
    assert (anchor.byte_blocks, anchor.tokens) == (1, 2 * SIZE + 3)
    assert list(anchor.at.chain()) == names[:2]
    chains.tokenised(second, len(tokens), array("Q", names), SIZE)
    chains.tokenised(second, 1, array("Q"), SIZE)
    anchor = chains.anchor(second)
    assert anchor is not None
    assert list(anchor.at.chain()) == names
    assert (chains.made, len(chains)) == (2, 2), "what is anchored stays"
    # One conversation is one run, whose blocks are stored once.
    assert chains.bytes < 2 * 300 + 8 * 3
    third, other = make_chain("one", "two", "three"), array("Q", [*names[:2], 7, 8])
    chains.tokenised(third, 4 * SIZE, other, SIZE)
    anchor = chains.anchor(third)
    assert anchor is not None
    assert anchor.at.chain() == other, "what was known before may be otherwise at its end"


def test_names_are_those_of_announced_blocks() -> None:
    source = EventSource(Budget(2**20))
    tokens = list(range(3 * SIZE))
    grown = source.apply(stored([7, 8, 9], tokens=tokens, size=SIZE, session="s"))
    assert grown is not None
    assert grown.hashes == names_of(array("I", [*tokens, 1]), SIZE)


def test_a_request_is_awaited_until_it_is_announced_or_ends() -> None:
    chains, chain = TokenChains(2**20), make_chain("one")
    for name, replica in (("a", "r"), ("b", "r"), ("c", "s")):
        chains.opened(name, replica, chain)
    grow(chains, "a", root(SIZE), 1)
    grow(chains, "a", 1, 2)
    assert chains.awaits("r")
    assert chains.awaits("s")
    chains.finished("b", SIZE)
    chains.finished("b", SIZE)
    chains.finished("c", 0)
    assert not chains.awaits("r")
    assert not chains.awaits("s")
    chains.finished("a", SIZE)
    chains.opened("a", "r", chain)
    assert chains.awaits("r")
