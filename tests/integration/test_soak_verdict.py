"""`make test-soak` finds leaks: what it says of memory that grows and of memory that does not."""

from random import Random

import pytest

from tests.soak.memory import FLAT_MIB_PER_H, Sample, fitted, slope


def samples(seconds: int, mib_per_h: float, seed: int = 1) -> list[Sample]:
    """A first half that fills, then so much an hour, with what a resident size jitters by."""
    random, filled = Random(seed), seconds / 2
    return [
        (float(at), 80 + 20 * min(1.0, at / filled) + mib_per_h * at / 3600 + random.gauss(0, 0.05))
        for at in range(seconds)
    ]


@pytest.mark.parametrize(
    ("seconds", "mib_per_h", "flat"),
    [
        (600, 0.0, True),
        (600, -30.0, True),
        (600, 12.0, True),
        (600, 30.0, False),
        (600, 73.0, False),
        (60, 0.0, None),
    ],
)
def test_leaks_are_found_and_what_fills_is_none(
    seconds: int, mib_per_h: float, flat: bool | None
) -> None:
    found = slope(samples(seconds, mib_per_h), 30_000)
    assert found.flat is flat
    assert found.low < found.mib_per_h < found.high
    if flat is not None:
        assert found.low - 1 < mib_per_h < found.high + 1
        assert (found.high <= FLAT_MIB_PER_H) is flat


def test_of_few_answers_nothing_is_said() -> None:
    assert slope(samples(600, 50.0), 17_000).flat is None


def test_a_jump_is_no_proof_of_flatness() -> None:
    stepped = [(float(at), 90.0 + 2 * (at > 450)) for at in range(600)]
    assert slope(stepped, 30_000).flat is False


def test_lines() -> None:
    assert fitted([(0, 1), (1, 3), (2, 5)]) == (2.0, 0.0)
