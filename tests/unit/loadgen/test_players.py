import asyncio
import time

from loadgen.ledger import Ledger
from loadgen.plan import ContentSettings
from loadgen.players import Players, stage_of
from loadgen.ramp.budget import Budget, BudgetRule
from loadgen.ramp.classic import ClassicRule
from loadgen.resume import Past
from loadgen.run_values import Breaker, Progress, RunSettings
from loadgen.schedule import Share, Timing
from loadgen.session import Asking, Gate
from loadgen.wire import Endpoint, Wire
from tests.support.chat_mock import chat_mock
from tests.support.traces import growing

TRACES = [growing(f"t{n}", [64, 128]) for n in range(5)]
FAST = Timing(think_scale=0.001, start_spread_s=0.01)


async def test_every_trace_is_played_in_exactly_one_share() -> None:
    played = []
    async with chat_mock() as mock:
        wire = Wire(Endpoint(mock.url))
        settings = RunSettings(mock.url, users=4, timing=FAST)
        for index in range(3):
            gate, now = Gate(), time.monotonic()
            ledger = Ledger(Progress(now, 4), gate, Breaker())
            stage = stage_of(
                settings, TRACES, wire, (Asking("m"), ContentSettings()),
                started=now, witness=ledger, gate=gate, past=Past(),
            )  # fmt: skip
            players = Players(settings, TRACES, stage, Share(index, 3))
            await players.prepare()
            await players.play(now)
            played += [(s.trace, s.turn) for s in ledger.progress.samples]
        wire.close()
    assert sorted(played) == [(f"t{n}", turn) for n in range(5) for turn in range(2)]


async def test_users_of_a_ramp_begin_once_however_often_they_are_offered() -> None:
    async with chat_mock() as mock:
        wire, gate, now = Wire(Endpoint(mock.url)), Gate(), time.monotonic()
        settings = RunSettings(mock.url, ramp=ClassicRule(1.0, 9), timing=FAST)
        ledger = Ledger(Progress(now, 0), gate, Breaker())
        stage = stage_of(
            settings, TRACES, wire, (Asking("m"), ContentSettings()),
            started=now, witness=ledger, gate=gate, past=Past(),
        )  # fmt: skip
        players = Players(settings, TRACES, stage)
        await players.prepare()
        players.offer(1)
        playing = asyncio.create_task(players.play(now))
        for users in (3, 1, 3):
            players.offer(users)
            await asyncio.sleep(0.02)
        gate.close("over")
        await playing
        wire.close()
    assert mock.in_flight_max <= 3
    assert len({s.trace for s in ledger.progress.samples}) >= 3


async def test_a_user_that_did_not_fit_leaves_its_place_to_one_that_is_added_later() -> None:
    async with chat_mock() as mock:
        wire, gate, now = Wire(Endpoint(mock.url)), Gate(), time.monotonic()
        rule = ClassicRule(1.0, 9, users_first=1, new_tokens_max=200)
        settings = RunSettings(mock.url, ramp=rule, timing=Timing(start_spread_s=0.01))
        ledger = Ledger(Progress(now, 0), gate, Breaker())
        stage = stage_of(
            settings, TRACES, wire, (Asking("m"), ContentSettings()),
            started=now, witness=ledger, gate=gate, past=Past(),
        )  # fmt: skip
        period = 0
        budget = Budget(BudgetRule(200), lambda: period * 30.0)
        traces = [growing(f"t{n}", [128]) for n in range(5)]
        players = Players(settings, traces, stage, budget=budget)
        players.offer(1)
        playing = asyncio.create_task(players.play(now))
        players.offer(3)  # 128 tokens each: the first is exempt, the others do not fit
        for _ in range(100):
            await asyncio.sleep(0.01)
            if len(budget._lost) == 3:  # nor does what follows the first one's only turn
                break
        assert len(budget.take_lost()) == 3
        assert len(ledger.progress.samples) == 1
        period = 1
        players.offer(1)
        for _ in range(100):
            await asyncio.sleep(0.01)
            if len(ledger.progress.samples) == 2:
                break
        gate.close("over")
        await playing
        wire.close()
    assert len(ledger.progress.samples) == 2
