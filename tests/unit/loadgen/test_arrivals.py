import asyncio
import itertools
import time
from dataclasses import replace

import pytest

from loadgen import arrivals
from loadgen.arrivals import Arrivals, begin_each
from loadgen.session import Gate
from tests.support.traces import growing

TRACES = [replace(growing(f"t{n}", [64]), start_s=at) for n, at in enumerate((7.0, 5.0, 9.0))]


def first(given: Arrivals, count: int, seed: int = 1) -> list[float]:
    return list(itertools.islice(given.starts_s(TRACES, seed), count))


def test_a_constant_rate() -> None:
    assert first(Arrivals("constant", 4.0), 3) == [0, 0.25, 0.5]


def test_poisson_arrivals_have_the_rate_and_the_spread() -> None:
    starts = first(Arrivals("poisson", 5.0), 4000)
    gaps = [after - before for before, after in itertools.pairwise(starts)]
    mean = sum(gaps) / len(gaps)
    deviation = (sum((gap - mean) ** 2 for gap in gaps) / len(gaps)) ** 0.5
    assert mean == pytest.approx(0.2, rel=0.05)
    assert deviation == pytest.approx(0.2, rel=0.1)
    assert first(Arrivals("poisson"), 5) == first(Arrivals("poisson"), 5)
    assert first(Arrivals("poisson"), 5) != first(Arrivals("poisson"), 5, seed=2)


def test_recorded_starts_are_ascending_and_scaled() -> None:
    assert first(Arrivals("recorded", 2.0), 9) == [0, 1, 2]


class Began:
    """Notes when conversations begin; they go on until the last of `count` has."""

    def __init__(self, count: int = 1) -> None:
        self.at: list[float] = []
        self.count = count
        self.all = asyncio.Event()

    async def following(self) -> arrivals.Following:
        return TRACES[0], None  # type: ignore[return-value]

    async def play(self, trace: object, session: object, at: float) -> None:
        self.at.append(at)
        if len(self.at) == self.count:
            self.all.set()
        await self.all.wait()


async def test_conversations_begin_at_their_times_whoever_is_still_going_on() -> None:
    began, now = Began(3), time.monotonic()
    playing = begin_each(
        [0.0, 0.01, 0.02], began.following, Gate(), began.play, began=time.monotonic()
    )
    assert await asyncio.wait_for(playing, 10)
    offsets = [at - began.at[0] for at in began.at]
    assert offsets == pytest.approx([0, 0.01, 0.02])
    assert began.at[0] >= now


async def test_too_many_conversations_end_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrivals, "CONVERSATIONS_MAX", 2)
    began = Began(2)
    playing = begin_each(
        itertools.repeat(0.0), began.following, Gate(), began.play, began=time.monotonic()
    )
    assert not await asyncio.wait_for(playing, 10)


async def test_a_closed_gate_begins_no_more() -> None:
    gate, began = Gate(), Began()
    gate.close("over")
    assert await begin_each([0.0, 1.0], began.following, gate, began.play, began=time.monotonic())
    assert began.at == []
