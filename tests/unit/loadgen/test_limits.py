import asyncio
import time

from loadgen.limits import Admission, Bucket, Limits
from loadgen.run import run_load
from loadgen.run_values import RunSettings
from loadgen.sample import Sample
from loadgen.schedule import Timing
from tests.support.chat_mock import chat_mock
from tests.support.samples import sample
from tests.support.traces import growing

FAST = Timing(think_scale=0.001, start_spread_s=0.01)


def open_gate() -> bool:
    return False


def test_a_bucket_holds_a_minute_and_lends_what_is_larger() -> None:
    bucket = Bucket(600, 0.0)
    assert bucket.has(5000, 0.0)
    bucket.spend(5000)
    assert not bucket.has(1, 439.0)
    assert bucket.has(1, 441.0)
    assert not bucket.has(600, 499.0)
    assert bucket.has(600, 10_000.0)
    assert Bucket(None, 0.0).has(10**12, 0.0)


async def test_prefills_and_decodes_are_told_apart() -> None:
    flying: dict[tuple[str, str, int], Sample] = {}
    one = sample(t_first_token=None)
    flying[one.key] = one
    await Admission(Limits(decodes=1), flying, 1.0).admit(0.0, 1, 1, open_gate)
    held = asyncio.create_task(Admission(Limits(prefills=1), flying, 1.0).admit(0, 1, 1, open_gate))
    await asyncio.sleep(0.06)
    assert not held.done()
    one.t_first_token = 1.0
    began = time.monotonic() - 1.0
    assert await held > began


async def test_nobody_overtakes_and_the_end_of_the_run_ends_the_wait() -> None:
    closed = False
    admission = Admission(Limits(output_tokens_per_min=10), {}, 1.0)
    assert await admission.admit(5.0, 0, 10, open_gate) == 5.0
    waits = [asyncio.create_task(admission.admit(0.0, 0, n, lambda: closed)) for n in (10, 0)]
    await asyncio.sleep(0.06)
    assert not any(task.done() for task in waits)
    closed = True
    await asyncio.gather(*waits)


async def test_a_run_keeps_its_limits() -> None:
    traces = [growing(f"t{n}", [64, 128, 192]) for n in range(4)]
    async with chat_mock() as mock:
        limits = Limits(in_flight=2)
        settings = RunSettings(mock.url, users=4, timing=FAST, limits=limits)
        result = await run_load(settings, traces)
        assert mock.in_flight_max <= 2
    assert result.summary["ok"] == 12
