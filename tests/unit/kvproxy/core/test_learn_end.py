from kvproxy.core.learn_end import learn_end
from kvproxy.core.replica import Replica
from kvproxy.core.ruler import Ruler
from kvproxy.core.score import Match
from kvproxy.core.types import Chain
from tests.support.makers import BLOCK_BYTES, make_chain, make_replica

SHARED = 40
FIRST = make_chain(b"s" * SHARED * BLOCK_BYTES, b"a" * 640)
SECOND = make_chain(b"s" * SHARED * BLOCK_BYTES, b"b" * 640)


def sent(*chains: Chain) -> Replica:
    """A block of each is believed to be 16 tokens."""
    replica = make_replica()
    for chain in chains:
        end, held = replica.hbm.pin(chain.hashes)
        ends = [16 * (block + 1) for block in range(len(chain))]
        replica.hbm.release(replica.hbm.extend(end, chain.hashes[held:], ends[held:]))
    return replica


def test_where_prompts_part_the_ruler_and_the_model_of_the_cache_learn() -> None:
    ruler, replica = Ruler(1000), sent(FIRST, SECOND)
    size = replica.hbm.size
    learn_end(ruler, replica, SECOND, Match(SHARED, 640), cached=576, model="m")
    assert ruler.tokens_at(FIRST, SHARED, "m") == 576 + 8
    # The block in which they part is held twice.
    assert replica.hbm.size == size + (640 - 576)


def test_a_report_that_is_too_far_off_is_of_other_blocks() -> None:
    for chains, predicted, cached in (((FIRST, SECOND), 640, 320), ((FIRST,), 640, 592)):
        ruler, replica = Ruler(1000), sent(*chains)
        before = ruler.tokens_at(SECOND, SHARED, "m")
        learn_end(ruler, replica, SECOND, Match(SHARED, predicted), cached=cached, model="m")
        assert ruler.tokens_at(SECOND, SHARED, "m") == before


def test_an_answer_that_was_held_too_says_nothing_of_its_prompt() -> None:
    ruler, replica = Ruler(1000), sent(FIRST)
    ruler.learn(FIRST, len(FIRST), 800.0, "m")
    grown = make_chain(b"s" * SHARED * BLOCK_BYTES, b"a" * 640, b"more" * 80)
    learn_end(ruler, replica, grown, Match(len(FIRST), 832), cached=832, model="m")
    assert ruler.tokens_at(grown, len(FIRST), "m") == 800.0
    learn_end(ruler, replica, grown, Match(len(FIRST), 800), cached=784, model="m")
    assert ruler.tokens_at(grown, len(FIRST), "m") == 800.0
    learn_end(ruler, replica, grown, Match(len(FIRST), 800), cached=768, model="m")
    assert ruler.tokens_at(grown, len(FIRST), "m") == 776.0, "prompts end otherwise than they go on"
