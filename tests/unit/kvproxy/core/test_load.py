from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvproxy.core.load import Hold, Load

ACTIONS = st.lists(st.tuples(st.sampled_from(["reserve", "token", "release"]), st.integers(0, 9)))


@given(ACTIONS, st.lists(st.floats(0, 100), min_size=1))
def test_counters_return_to_zero(actions: list[tuple[str, int]], prefills: list[float]) -> None:
    load = Load()
    holds: list[Hold] = []
    for now, (action, which) in enumerate(actions):
        if action == "reserve":
            holds.append(load.reserve("r", prefills[which % len(prefills)], now))
        elif holds:
            hold = holds[which % len(holds)]
            if action == "token":
                load.first_token(hold, now)
            else:
                holds.remove(hold)
                load.release(hold, now)
        assert load.in_flight == len(holds)
        owed = sum(hold.prefill_s for hold in holds if hold.first_token_at is None)
        assert load.waiting_s == pytest.approx(owed)
        assert 0 <= load.queue_s(now) <= owed + 1e-6
    for hold in holds:
        load.release(hold, 1e6)
    assert (load.in_flight, load.waiting, load.waiting_s) == (0, {}, 0.0)


def naive_queue_s(load: Load, now: float) -> float:
    """Added up anew."""
    others_s = (load.foreign_waiting - load.peers_waiting) * load.typical_s + load.peers_waiting_s
    holds = list(load.waiting.values())
    if not holds:
        return others_s
    worked_s = min(now - load.progress_at, holds[0].prefill_s)
    return others_s + sum(hold.prefill_s for hold in holds) - worked_s


@given(st.randoms(use_true_random=False))
def test_the_queue_is_kept_as_it_would_be_added_up(random: Random) -> None:
    load, holds, now = Load(), list[Hold](), 5.0
    for _ in range(40):
        now += random.choice([0.0, 0.5, 3.0])
        action = random.randrange(6)
        if action == 0:
            load.scraped(random.randrange(5), random.randrange(5))
        elif action == 1:
            load.peers(random.randrange(3), random.randrange(3), random.random())
        elif action <= 3 or not holds:
            holds.append(load.reserve("r", random.choice([0.0, 0.3, 2.0]), now))
        elif action == 4:
            load.revise(random.choice(holds), random.random())
        else:
            hold = holds.pop(random.randrange(len(holds)))
            load.first_token(hold, now)
            load.release(hold, now)
        for later in (now, now + 0.2, now + 50.0):
            assert load.queue_s(later) == pytest.approx(naive_queue_s(load, later), abs=1e-9)
        assert load.decoding == load.in_flight - len(load.waiting) + load.foreign_running


def test_the_queue_shrinks_while_the_oldest_is_worked_on() -> None:
    load = Load()
    load.reserve("r", 2.0, 10.0)
    load.reserve("r", 3.0, 11.0)
    assert load.queue_s(10.0) == 5.0
    assert load.queue_s(11.5) == 3.5
    # It owes the second one whole, however late the first is.
    assert load.queue_s(99.0) == 3.0


def test_progress_starts_anew_with_each_first_token() -> None:
    load = Load()
    first = load.reserve("r", 2.0, 0.0)
    load.reserve("r", 3.0, 0.0)
    load.first_token(first, 5.0)
    assert load.queue_s(5.0) == 3.0
    assert load.queue_s(6.0) == 2.0


def test_only_the_first_of_a_queue_is_alone() -> None:
    load = Load()
    first = load.reserve("r", 1.0, 0.0)
    second = load.reserve("r", 1.0, 0.0)
    load.first_token(first, 1.0)
    load.first_token(second, 2.0)
    third = load.reserve("r", 1.0, 3.0)
    assert (first.alone, second.alone, third.alone) == (True, False, True)


def test_the_first_token_counts_once() -> None:
    load = Load()
    hold = load.reserve("r", 1.0, 0.0)
    load.first_token(hold, 1.0)
    load.first_token(hold, 2.0)
    assert hold.first_token_at == 1.0


def test_an_empty_queue_owes_nothing_after_many_additions() -> None:
    load = Load()
    holds = [load.reserve("r", 0.1, 0.0) for _ in range(1000)]
    for hold in holds:
        load.release(hold, 1.0)
    assert load.waiting_s == 0.0


def test_a_hold_is_released_once() -> None:
    load = Load()
    hold = load.reserve("r", 1.0, 0.0)
    load.release(hold, 1.0)
    with pytest.raises(AssertionError):
        load.release(hold, 2.0)
    with pytest.raises(AssertionError):
        load.first_token(hold, 2.0)


def test_what_peers_say_and_what_the_engine_says_are_not_added() -> None:
    load = Load()
    load.scraped(running=5, waiting=3)
    assert (load.foreign_running, load.foreign_waiting) == (5, 3)
    load.peers(decoding=2, waiting=4, waiting_s=6.0)
    assert (load.foreign_running, load.foreign_waiting) == (5, 4)
    assert load.queue_s(0.0) == 6.0
    load.typical_s = 0.5
    load.peers(decoding=2, waiting=1, waiting_s=2.0)
    assert load.queue_s(0.0) == 2.0 + 2 * 0.5
    load.peers(0, 0, 0.0)
    load.scraped(running=0, waiting=0)
    assert load.queue_s(0.0) == 0.0


def test_what_is_prefilled_at_a_scrape_is_no_answer_of_others() -> None:
    load = Load()
    holds = [load.reserve("r", 1.0, 0.0) for _ in range(3)]
    load.first_token(holds[0], 0.5)
    # One answers, one is prefilled, one waits; then also one of a peer's and an unknown answer.
    load.scraped(running=2, waiting=1)
    assert (load.decoding, load.foreign_waiting) == (1, 0)
    load.peers(decoding=0, waiting=1, waiting_s=1.0)
    load.scraped(running=4, waiting=1)
    assert (load.decoding, load.foreign_waiting) == (2, 1)
    for hold in holds:
        load.release(hold, 2.0)
    load.peers(decoding=0, waiting=0, waiting_s=0.0)
    load.scraped(running=0, waiting=0)
    assert (load.decoding, load.queue_s(2.0)) == (0, 0.0)


def test_what_asks_to_be_left_alone_owes_that_time() -> None:
    load = Load()
    load.decline(10.0)
    load.decline(7.0)
    assert [load.queue_s(now) for now in (0.0, 4.0, 10.0, 20.0)] == [10.0, 6.0, 0.0, 0.0]
    hold = load.reserve("r", 2.0, 5.0)
    assert load.queue_s(5.0) == 7.0
    # It is not what was placed here.
    assert load.own_queue_s(5.0) == 2.0
    load.release(hold, 6.0)
