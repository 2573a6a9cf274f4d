from random import Random

import pytest

from loadgen.sample import Sample
from loadgen.versus.pairs import by_conversation, difference, hit_rate, mean, p95, stretches
from tests.support.samples import sample


def ttft(one: Sample) -> float | None:
    return one.ttft_s


def test_only_requests_that_both_answered_are_pairs() -> None:
    base = [sample(), sample(turn=1, ttft_s=2.0), sample(turn=2, error="timeout")]
    arm = [sample(turn=2), sample(turn=1, ttft_s=3.0), sample(turn=3), sample(error="timeout")]
    assert by_conversation(base, arm, ttft) == {"c": [(2.0, 3.0)]}
    assert difference({}, mean) is None


def test_figures() -> None:
    assert hit_rate(sample()) == 0.8
    assert hit_rate(sample(prompt_tokens=None)) is None
    assert p95([float(n) for n in range(101)]) == 95.0


def made(random: Random, effect: float) -> dict[str, list[tuple[float, float]]]:
    """Thirty conversations of ten requests. Conversations differ a lot, arms by `effect` and by
    what each conversation happens to make of it."""
    pairs = {}
    for number in range(30):
        slow, luck = random.uniform(0.1, 5.0), random.gauss(0, 0.3)
        base = [random.gauss(slow, 0.05) for _ in range(10)]
        pairs[f"t{number}"] = [(b, b + effect + luck + random.gauss(0, 0.05)) for b in base]
    return pairs


def test_pairing_sees_what_is_small_beside_the_spread() -> None:
    found = difference(made(Random(1), 0.4), mean)
    assert found is not None
    assert found.sure
    assert found.low < 0.4 < found.high
    assert found.arm - found.base == pytest.approx(0.4, abs=0.2)


def test_no_difference_is_called_sure_about_one_time_in_twenty() -> None:
    random = Random(2)
    sure = sum(
        found.sure for _ in range(60) if (found := difference(made(random, 0.0), mean)) is not None
    )
    print(f"{sure} of 60")
    assert sure <= 9


def test_stretch_is_against_the_best_arm_of_each_conversation() -> None:
    arms = {
        "a": [sample(e2e_s=1.0), sample(turn=1, e2e_s=1.0), sample(conversation="d", e2e_s=6.0)],
        "b": [sample(e2e_s=4.0), sample(conversation="d", e2e_s=3.0)],
    }
    assert stretches(arms) == {"a": [1.0, 2.0], "b": [2.0, 1.0]}
    arms["b"].append(sample(conversation="d", turn=1, error="timeout"))
    assert stretches(arms) == {"a": [1.0], "b": [2.0]}


def test_a_few_conversations_are_sure_of_nothing() -> None:
    for count, sure in ((1, False), (5, False), (6, True)):
        pairs = {f"t{n}": [(1.0, 3.0), (1.0, 3.5)] for n in range(count)}
        found = difference(pairs, mean)
        assert found is not None
        assert (found.conversations, found.sure) == (count, sure)
