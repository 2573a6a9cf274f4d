import pytest

from kvproxy.core.echo_rate import EchoRate
from kvproxy.core.kept_answers import keep_answer
from kvproxy.core.prefix_tree import PrefixTree
from kvproxy.core.ruler import Ruler
from kvproxy.core.score import Match
from kvproxy.core.sent import NOTHING_HELD, Same, in_hbm, in_tiers, whole_blocks
from tests.support.makers import make_chain, make_replica

NEW = EchoRate()
CHAIN = make_chain(*["x" * 64] * 40)
ENDS = [16 * (block + 1) for block in range(len(CHAIN))]


def holding(tree: PrefixTree, blocks: int) -> None:
    end, _ = tree.pin(())
    tree.release(tree.extend(end, CHAIN.hashes[:blocks], ENDS[:blocks]))


def test_who_was_sent_nothing_like_it_holds_nothing() -> None:
    replica = make_replica()
    assert in_hbm(Ruler(10), replica, "m", CHAIN, 800, echo_rate=NEW, same={}) is NOTHING_HELD
    holding(replica.hbm, 10)
    assert (
        in_hbm(Ruler(10), replica, "m", make_chain("y" * 64), 800, echo_rate=NEW, same={})
        is NOTHING_HELD
    )


def test_what_many_hold_is_worked_out_once() -> None:
    same: Same = {}
    fleet = [make_replica(f"r{index}") for index in range(3)]
    for replica, blocks in zip(fleet, (10, 10, 20), strict=True):
        holding(replica.hbm, blocks)
    first, second, third = [
        in_hbm(Ruler(10), r, "m", CHAIN, 800, echo_rate=NEW, same=same) for r in fleet
    ]
    assert first is second
    assert (first.blocks, third.blocks) == (10, 20)
    assert 0 < first.tokens < third.tokens
    assert first.by_history == first.tokens


def test_a_second_tier_adds_what_it_holds_beyond_hbm() -> None:
    replica = make_replica()
    holding(replica.hbm, 10)
    ruler = Ruler(10)
    alone = in_tiers(ruler, replica, "m", CHAIN, 800, echo_rate=NEW)
    replica.dram = PrefixTree(10_000)
    assert in_tiers(ruler, replica, "m", CHAIN, 800, echo_rate=NEW) == alone
    holding(replica.dram, 40)
    both = in_tiers(ruler, replica, "m", CHAIN, 800, echo_rate=NEW)
    assert both.blocks == 40
    assert both.hbm == alone.tokens
    assert both.tokens == both.by_history == both.hbm + both.dram
    assert both.tokens % 256 == 0
    short = Match(10, alone.tokens, by_history=alone.tokens)
    assert in_tiers(ruler, replica, "m", CHAIN, 255, echo_rate=NEW) == short, (
        "no chunk of it is whole"
    )


@pytest.mark.parametrize("again", [False, True])
def test_a_second_tier_has_the_answer_too_if_engines_find_those_again(again: bool) -> None:
    """The prompt of the turn before is in both, its answer in one."""
    replica, ruler, echo_rate = make_replica(), Ruler(10), EchoRate()
    echo_rate.saw("m", again=again)
    replica.dram = PrefixTree(10_000)
    holding(replica.hbm, 20)
    holding(replica.dram, 20)
    keep_answer(replica.dram, CHAIN.hashes[19], 512, 0.0, 0.0)
    match = in_tiers(ruler, replica, "m", CHAIN, 2000, echo_rate=echo_rate)
    alone = in_hbm(ruler, replica, "m", CHAIN, 2000, echo_rate=echo_rate, same={})
    assert match.blocks == alone.blocks == 20
    assert match.hbm == alone.tokens
    held = int(ruler.tokens_at(CHAIN, 20, "m")) // 16 * 16 + 512
    assert match.tokens == (held // 256 * 256 if again else alone.tokens)


@pytest.mark.parametrize(
    ("tokens", "prompt_tokens", "expected"),
    [(0, 100, 0), (40, 100, 32), (160, 160, 144), (161, 160, 144), (5, 0, 0)],
)
def test_hits_are_whole_blocks_and_never_all(
    tokens: int, prompt_tokens: int, expected: int
) -> None:
    assert whole_blocks(tokens, prompt_tokens, 16) == expected
