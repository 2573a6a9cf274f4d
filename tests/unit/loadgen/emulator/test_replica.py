import asyncio

import pytest

from loadgen.emulator.replica import EngineDeadError, Replica, Work
from loadgen.emulator.settings import EmulatorSettings
from loadgen.engine_model import Admitted, Finished, FirstToken, Tokens

FAST = EmulatorSettings(time_scale=1000.0, hbm_tokens=16_000)


def work(chain: bytes, prompt_tokens: int, output_tokens: int, reason: str) -> Work:
    return Work(chain, prompt_tokens, output_tokens, reason)


async def collect(replica: Replica, inflight) -> list:
    out = []
    while not inflight.finished:
        out += [emission for _, emission in await inflight.take()]
    replica.release(inflight)
    return out


async def test_emissions_reach_the_waiting_request():
    replica = Replica(FAST)
    inflight = replica.submit([work(b"", 100, 5, "stop")])
    assert replica.inflight_count == 1
    out = await collect(replica, inflight)
    assert isinstance(out[0], Admitted)
    assert isinstance(out[1], FirstToken)
    assert sum(one.tokens for one in out if isinstance(one, Tokens)) == 4
    assert out[-1] == Finished(*inflight.ids, out[-1].time_s, "stop")
    assert replica.inflight_count == 0
    assert replica.gauges().generation_tokens == 5


async def test_release_before_the_end_aborts():
    replica = Replica(EmulatorSettings())
    inflight = replica.submit([work(b"", 100_000, 5, "length")])
    assert replica.gauges().running == 1
    replica.release(inflight)
    gauges = replica.gauges()
    assert (gauges.running, gauges.waiting, gauges.kv_usage) == (0, 0, 0)
    assert replica.metrics.finished["abort"] == 1
    replica.close()


async def test_two_requests_share_the_engine():
    replica = Replica(FAST)
    first = replica.submit([work(b"", 100, 50, "length")])
    second = replica.submit([work(b"", 100, 50, "length")])
    ends = await asyncio.gather(collect(replica, first), collect(replica, second))
    assert [out[-1].id for out in ends] == [*first.ids, *second.ids]


async def test_a_stall_holds_back_and_resume_lets_go():
    replica = Replica(FAST)
    replica.stall(float("inf"))
    inflight = replica.submit([work(b"", 100, 5, "length")])
    waiting = asyncio.ensure_future(collect(replica, inflight))
    await asyncio.sleep(0)
    assert replica.gauges().running == 0
    assert not waiting.done()
    replica.resume()
    assert isinstance((await waiting)[-1], Finished)


async def test_a_crash_ends_every_request_and_refuses_new_ones():
    replica = Replica(EmulatorSettings())
    inflight = replica.submit([work(b"", 100, 5, "length")])
    taking = asyncio.ensure_future(inflight.take())
    await asyncio.sleep(0)
    replica.crash()
    with pytest.raises(EngineDeadError):
        await taking
    with pytest.raises(EngineDeadError):
        await inflight.take()
    with pytest.raises(EngineDeadError):
        replica.submit([work(b"", 1, 1, "length")])
    replica.release(inflight)


async def test_chunk_interval_gathers_tokens_but_not_the_first():
    settings = EmulatorSettings(decode_step_s=0.001, prefill_tok_s=1e6, chunk_interval_s=0.02)
    replica = Replica(settings)
    out = await collect(replica, replica.submit([work(b"", 10, 101, "length")]))
    tokens = [one for one in out if isinstance(one, Tokens)]
    assert sum(one.tokens for one in tokens) == 100
    assert len(tokens) <= 100 / 20 + 2


async def test_reset_forgets_the_prefix():
    replica = Replica(FAST)
    chain = bytes(8 * 10)
    await collect(replica, replica.submit([work(chain, 160, 1, "length")]))
    assert replica.reset_prefix_cache(external=True)
    again = await collect(replica, replica.submit([work(chain, 160, 1, "length")]))
    assert again[0].hbm_hit == 0


async def test_generations_of_one_request_end_together_or_are_aborted_together():
    replica = Replica(FAST)
    inflight = replica.submit([work(b"", 100, 5, "length"), work(b"", 100, 50, "length")])
    assert replica.inflight_count == 1
    numbers = []
    while not inflight.finished:
        numbers += [number for number, emission in await inflight.take()
                    if isinstance(emission, Finished)]  # fmt: skip
    assert numbers == [0, 1]
    replica.release(inflight)
    slow = Replica(EmulatorSettings())
    slow.release(slow.submit([work(b"", 9000, 5, "length")] * 3))
    assert (slow.gauges().running, slow.gauges().waiting, slow.inflight_count) == (0, 0, 0)
    assert slow.metrics.finished["abort"] == 3
    slow.close()
