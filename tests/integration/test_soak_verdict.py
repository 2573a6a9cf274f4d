"""`make test-soak` finds leaks: what it says of memory that grows and of memory that does not."""

from random import Random

import pytest

from tests.soak.memory import FLAT_MIB_PER_H, LEAK_BYTES, Sample, Verdict, fitted, slope


def samples(seconds: int, mib_per_h: float, *, jitter: float = 0.05) -> list[Sample]:
    """A first half that fills, then so much an hour, with what such a size jitters by."""
    random, filled = Random(1), seconds / 2
    return [
        (
            float(at),
            80 + 20 * min(1.0, at / filled) + mib_per_h * at / 3600 + random.gauss(0, jitter),
        )
        for at in range(seconds)
    ]


def leaking(each: float, seconds: int, answers: int) -> list[Sample]:
    """So many bytes with each answer, and as much coming and going as was seen."""
    return samples(seconds, each * answers / seconds * 3600 / 2**20, jitter=0.3)


@pytest.mark.parametrize(
    ("seconds", "mib_per_h", "grows"),
    [
        (600, 0.0, False),
        (600, -30.0, False),
        (600, 12.0, False),
        (600, 30.0, True),
        (600, 73.0, True),
        (60, 0.0, None),
    ],
)
def test_growth_is_found_and_what_fills_is_none(
    seconds: int, mib_per_h: float, grows: bool | None
) -> None:
    found = slope(samples(seconds, mib_per_h), 30_000)
    verdict = Verdict(slope(leaking(0, 600, 30_000), 30_000), found, 30_000)
    assert (verdict.leaks, verdict.grows) == (False, grows)
    assert found.low < found.mib_per_h < found.high
    if grows is not None:
        assert found.low - 1 < mib_per_h < found.high + 1
        assert (found.high > FLAT_MIB_PER_H) is grows


@pytest.mark.parametrize(
    ("each", "leaks"), [(-100, False), (0, False), (100, True), (200, True), (1000, True)]
)
@pytest.mark.parametrize("answers", [12_000, 30_000])
def test_what_every_answer_leaves_is_found(each: float, leaks: bool, answers: int) -> None:
    found = slope(leaking(each, 600, answers), answers)
    assert Verdict(found, slope(samples(600, 0.0), answers), answers).leaks is leaks
    assert found.answer_high > found.answer_bytes
    assert (found.answer_high > LEAK_BYTES) is leaks


def test_of_few_answers_nothing_is_said() -> None:
    found = slope(samples(600, 50.0), 5_000)
    assert (Verdict(found, found, 5_000).leaks, Verdict(found, found, 17_000).grows) == (None, None)


def test_a_jump_is_no_proof_of_flatness() -> None:
    found = slope([(float(at), 90.0 + 2 * (at > 450)) for at in range(600)], 30_000)
    verdict = Verdict(found, found, 30_000)
    assert verdict.grows
    assert verdict.leaks


def test_lines() -> None:
    assert fitted([(0, 1), (1, 3), (2, 5)]) == (2.0, 0.0)
