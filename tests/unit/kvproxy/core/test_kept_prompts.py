from kvproxy.core.echo_rate import EchoRate
from kvproxy.core.kept_answers import NO_REPEATS, Repeats, keep_answer
from kvproxy.core.kept_prompts import pin_prompt, write_through
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
