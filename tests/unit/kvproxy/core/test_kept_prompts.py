from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from kvproxy.core.echo_rate import EchoRate
from kvproxy.core.kept_answers import NO_REPEATS, Repeats, keep_answer
from kvproxy.core.kept_prompts import hold_on, pin_prompt, write_through
from kvproxy.core.prefix_tree import PrefixTree
from kvproxy.core.ruler import Ruler
from tests.support.makers import make_chain, make_replica

BEFORE, NOW = make_chain(*["x" * 64] * 10), make_chain(*["x" * 64] * 10, *["y" * 64] * 5)


def test_a_prompt_is_pinned_whole_and_its_room_is_taken_once() -> None:
    ruler, replica = Ruler(10), make_replica()
    end, answer = pin_prompt(ruler, replica, "m", BEFORE, EchoRate())
    size = replica.hbm.size
    assert (replica.hbm.match(BEFORE.hashes), answer) == (10, NO_REPEATS)
    again, answer = pin_prompt(ruler, replica, "m", BEFORE, EchoRate())
    assert (again, replica.hbm.size, answer) == (end, size, NO_REPEATS)
    replica.hbm.release(end)
    replica.hbm.release(again)


def test_a_longer_prompt_may_go_on_with_the_answer_before_it() -> None:
    for echoes in (False, True):
        ruler, replica, echo_rate = Ruler(10), make_replica(), EchoRate()
        echo_rate.saw("m", again=echoes)
        ruler.told(BEFORE.end, 165)
        end, _ = pin_prompt(ruler, replica, "m", BEFORE, echo_rate)
        keep_answer(replica.hbm, BEFORE.end, 32, 0.0, 0.0)
        replica.hbm.release(end)
        size, before = replica.hbm.size, end.end
        longer, answer = pin_prompt(ruler, replica, "m", NOW, echo_rate)
        assert answer == Repeats(BEFORE.end, 160, 192)
        added = longer.end - before - 32 * echoes
        assert replica.hbm.size == size + added, "where it is found again it is the prompt's"


def test_a_tier_behind_keeps_what_was_computed() -> None:
    ruler, tier = Ruler(10), PrefixTree(10_000)
    write_through(ruler, tier, "m", BEFORE, 1.0, echo_rate=EchoRate())
    write_through(ruler, tier, "m", NOW, 2.0, echo_rate=EchoRate())
    assert tier.match(NOW.hashes) == 15
    victim = tier.next_victim()
    assert victim is not None
    assert victim.used_at == 2.0


def test_a_tier_behind_has_an_answer_that_is_repeated_once() -> None:
    for echoes in (False, True):
        ruler, tier, echo_rate = Ruler(10), PrefixTree(10_000), EchoRate()
        echo_rate.saw("m", again=echoes)
        write_through(ruler, tier, "m", BEFORE, 1.0, echo_rate=echo_rate)
        keep_answer(tier, BEFORE.end, 32, 1.0, 0.0)
        size = tier.size
        write_through(ruler, tier, "m", NOW, 2.0, echo_rate=echo_rate)
        added = ruler.tokens_at(NOW, 15, "m") - ruler.tokens_at(NOW, 10, "m")
        assert abs(tier.size - size - added + 32 * echoes) <= 1


@settings(max_examples=20)
@given(st.randoms(use_true_random=False))
def test_where_blocks_end_is_the_same_whenever_it_is_asked_for(random: Random) -> None:
    """Against a cache whose ends are all worked out as prompts come."""
    ruler, late, plain = Ruler(10), PrefixTree(4000), PrefixTree(4000)
    turns = [[random.choice("ab") * 40_000] for _ in range(3)]
    for _ in range(12):
        texts = random.choice(turns)
        texts.append(random.choice("cd") * random.choice([100, 900, 20_000]))
        chain = make_chain(*texts)
        end, held = late.pin(chain.hashes)
        end = hold_on(ruler, late, end, chain, held, model="m")
        twin, held_by_twin = plain.pin(chain.hashes)
        assert held == held_by_twin
        ends = ruler.token_ends(chain, held, "m", twin.end)
        twin = plain.extend(twin, chain.hashes[held:], ends)
        late.release(end)
        plain.release(twin)
        late.resize(random.choice([3000, 9000, 30_000]))
        plain.resize(late.capacity)
        assert abs(late.size - plain.size) <= 17
        for each in turns:
            hashes = make_chain(*each).hashes
            assert abs(late.match(hashes) - plain.match(hashes)) <= 1
