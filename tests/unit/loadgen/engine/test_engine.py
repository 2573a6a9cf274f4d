"""The engine's clockwork: what it says when, and that jumping equals stepping."""

import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loadgen.engine_model import (
    Admitted,
    Engine,
    EngineLimits,
    EngineRates,
    Finished,
    FirstToken,
    Request,
    Tokens,
)

RATES = EngineRates(prefill_tok_s=1000, decode_step_s=0.01, dram_tok_s=100_000)


def chain(seed: int, blocks: int) -> bytes:
    return random.Random(seed).randbytes(8 * blocks)


def engine(rates: EngineRates = RATES, **limits: int) -> Engine:
    defaults = {"hbm_tokens": 16_000, "max_num_batched_tokens": 512, "max_num_seqs": 8}
    return Engine(rates, EngineLimits(**(defaults | limits)))


def request(name: str, prompt: int, output: int, seed: int = 0) -> Request:
    return Request(name, chain(seed, (prompt + output - 1) // 16), prompt, output)


def drain(model: Engine) -> list:
    out = []
    while (at := model.next_event_time()) is not None:
        out += model.advance(at)
    return out


def of(kind: type, emissions: list, name: str = "a"):
    (found,) = [e for e in emissions if isinstance(e, kind) and e.id == name]
    return found


def test_one_request_alone():
    model = engine()
    model.submit(request("a", 100, 5), 2.0)
    out = drain(model)
    assert of(Admitted, out) == Admitted("a", 2.0, 0.0, 0, 0, 100)
    assert of(FirstToken, out).time_s == pytest.approx(2.1)
    assert of(Tokens, out) == Tokens("a", pytest.approx(2.14), 4)
    assert of(Finished, out) == Finished("a", pytest.approx(2.14), "length")
    assert model.next_event_time() is None
    gauges = model.gauges()
    assert (gauges.running, gauges.waiting, gauges.kv_usage) == (0, 0, 0)
    assert (gauges.prompt_tokens, gauges.generation_tokens) == (100, 5)


def test_a_prompt_longer_than_the_budget_is_cut_at_no_cost():
    times = []
    for budget in (100, 512, 8192):
        rates = EngineRates(prefill_tok_s=1000, attn_s_per_tok2=1e-6)
        model = engine(rates, max_num_batched_tokens=budget)
        model.submit(request("a", 5000, 1), 0.0)
        times.append(of(FirstToken, drain(model)).time_s)
    assert times == pytest.approx([5.0 + 1e-6 * 5000**2 / 2] * 3)


def test_a_hit_never_covers_the_last_token():
    model = engine()
    for name in "abc":
        model.submit(request(name, 160, 1), float(ord(name)))
    out = drain(model)
    assert of(Admitted, out, "a").hbm_hit == 0
    assert of(Admitted, out, "b").hbm_hit == 144
    assert of(Admitted, out, "c").computed == 16
    assert (model.gauges().prefix_queries, model.gauges().prefix_hits) == (480, 288)


def test_generated_tokens_are_cached_too():
    model = engine()
    shared = chain(1, 100)
    model.submit(Request("a", shared, 100, 61), 0.0)
    drain(model)
    model.submit(Request("b", shared, 1000, 1), 10.0)
    assert of(Admitted, drain(model), "b").hbm_hit == 160


def test_requests_of_one_moment_share_a_step():
    model = engine()
    model.submit(request("a", 100, 1, seed=1), 0.0)
    model.submit(request("b", 100, 1, seed=2), 0.0)
    out = drain(model)
    assert of(FirstToken, out, "a").time_s == of(FirstToken, out, "b").time_s == pytest.approx(0.2)


def test_an_arrival_waits_for_the_step_under_way_only():
    model = engine()
    model.submit(request("a", 100, 1000, seed=1), 0.0)
    model.submit(request("b", 100, 1, seed=2), 0.255)
    out = drain(model)
    assert of(Admitted, out, "b").time_s == pytest.approx(0.26)
    assert of(Admitted, out, "b").queue_s == pytest.approx(0.005)
    assert of(FirstToken, out, "b").time_s == pytest.approx(0.26 + 0.01 + 0.1)


def test_first_come_first_served_when_blocks_are_short():
    model = engine(hbm_tokens=1600)
    model.submit(request("a", 800, 100, seed=1), 0.0)
    model.submit(request("b", 900, 1, seed=2), 0.1)
    model.submit(request("c", 16, 1, seed=3), 0.2)
    out = drain(model)
    ended = of(Finished, out, "a").time_s
    assert of(Admitted, out, "b").time_s == pytest.approx(ended)
    assert of(Admitted, out, "c").time_s >= of(Admitted, out, "b").time_s
    assert model.gauges().preemptions == 0


def test_the_newest_is_preempted_and_recomputes():
    model = engine(hbm_tokens=640, max_num_batched_tokens=1000)
    model.submit(request("a", 300, 200, seed=1), 0.0)
    model.submit(request("b", 300, 200, seed=2), 0.0)
    out = drain(model)
    assert model.gauges().preemptions >= 1
    again = [e for e in out if isinstance(e, Admitted) and e.id == "b"]
    assert len([e for e in out if isinstance(e, Admitted) and e.id == "a"]) == 1
    assert len(again) == 1 + model.gauges().preemptions
    assert sum(e.tokens for e in out if isinstance(e, Tokens) and e.id == "b") == 199
    assert model.gauges().prompt_tokens == 600
    assert model.gauges().prefix_queries == 600, "a preempted request counts once"


def test_seats_are_limited():
    model = engine(max_num_seqs=2)
    for index in range(4):
        model.submit(request(str(index), 16, 11, seed=index), 0.0)
    model.advance(0.0)
    assert (model.gauges().running, model.gauges().waiting) == (2, 2)
    assert len([e for e in drain(model) if isinstance(e, Finished)]) == 4


def test_abort_frees_everything_at_once():
    model = engine()
    model.submit(request("a", 4000, 10, seed=1), 0.0)
    model.submit(request("b", 4000, 10, seed=2), 0.0)
    model.advance(0.7)
    assert model.gauges().kv_usage > 0
    model.abort("a", 0.7)
    model.abort("b", 0.7)
    model.abort("b", 0.7)
    gauges = model.gauges()
    assert (gauges.running, gauges.waiting, gauges.kv_usage) == (0, 0, 0)
    ends = [e for e in drain(model) if isinstance(e, Finished)]
    assert [(e.id, e.reason, e.time_s) for e in ends] == [("a", "abort", 0.7), ("b", "abort", 0.7)]


def test_what_an_aborted_prefill_computed_stays_cached():
    model = engine()
    model.submit(request("a", 4000, 10), 0.0)
    model.advance(1.1)
    model.abort("a", 1.1)
    model.submit(request("b", 4000, 10), 5.0)
    assert of(Admitted, drain(model), "b").hbm_hit == 3 * 512


def test_dram_gives_back_what_hbm_lost():
    model = engine(hbm_tokens=1600, dram_tokens=10_240)
    model.submit(request("a", 1000, 1, seed=1), 0.0)
    model.submit(request("b", 1500, 1, seed=2), 10.0)
    model.submit(request("c", 1000, 1, seed=1), 20.0)
    out = drain(model)
    admitted = of(Admitted, out, "c")
    assert (admitted.hbm_hit, admitted.dram_hit, admitted.computed) == (96, 672, 232)
    assert of(FirstToken, out, "c").time_s == pytest.approx(20.0 + 672 / 100_000 + 0.232)
    gauges = model.gauges()
    assert (gauges.dram_hits, gauges.loaded_prompt_tokens) == (672, 672)
    assert gauges.cached_prompt_tokens == 768


def test_loads_share_one_link_and_count_as_deferred():
    model = engine(dram_tokens=10_240)
    for name, seed in (("a", 1), ("b", 2)):
        model.submit(request(name, 1025, 1, seed=seed), 0.0)
    drain(model)
    assert model.reset_prefix_cache(5.0)
    for name, seed in (("c", 1), ("d", 2)):
        model.submit(request(name, 1025, 1, seed=seed), 10.0)
    out = model.advance(10.0)
    assert (model.gauges().deferred, model.gauges().waiting) == (2, 2)
    out += drain(model)
    assert of(FirstToken, out, "c").time_s == pytest.approx(10 + 0.01024 + 0.001)
    assert of(FirstToken, out, "d").time_s == pytest.approx(10 + 2 * 0.01024 + 0.001)


def test_reset_of_both_tiers():
    model = engine(dram_tokens=10_240)
    model.submit(request("a", 1000, 1), 0.0)
    model.advance(0.1)
    assert not model.reset_prefix_cache(0.1, external=True), "refused while blocks are in use"
    drain(model)
    assert model.reset_prefix_cache(5.0, external=True)
    model.submit(request("b", 1000, 1), 6.0)
    assert of(Admitted, drain(model), "b").computed == 1000


def test_stall_delays_everything_by_its_length():
    model = engine()
    model.submit(request("a", 100, 101), 0.0)
    model.advance(0.505)
    model.stall(0.505, until=3.505)
    assert model.advance(2.0) == []
    assert model.next_event_time() == 3.505
    model.submit(request("b", 100, 1, seed=2), 2.0)
    out = drain(model)
    assert of(FirstToken, out, "b").time_s == pytest.approx(3.51 + 0.11)
    assert of(Finished, out, "a").time_s == pytest.approx(1.1 + 3.0 + 0.1)


def test_resume_ends_an_endless_stall():
    model = engine()
    model.submit(request("a", 100, 1), 0.0)
    model.stall(0.0)
    assert model.next_event_time() is None
    assert model.advance(1e6) == []
    model.resume(1e6)
    assert of(FirstToken, drain(model)).time_s == pytest.approx(1e6 + 0.1)


def test_prefix_caching_can_be_off():
    model = Engine(RATES, EngineLimits(hbm_tokens=16_000, prefix_caching=False))
    for name in "ab":
        model.submit(request(name, 160, 1), float(ord(name)))
    assert of(Admitted, drain(model), "b").hbm_hit == 0


def test_refuses_what_can_never_be_served():
    model = engine(hbm_tokens=1600)
    with pytest.raises(ValueError, match="do not fit"):
        model.submit(request("a", 1601, 1), 0.0)
    with pytest.raises(ValueError, match="at least one token"):
        model.submit(Request("a", b"", 0, 1), 0.0)
    model.submit(request("a", 10, 1), 0.0)
    with pytest.raises(ValueError, match="in use"):
        model.submit(request("a", 10, 1), 0.0)


ARRIVALS = st.lists(
    st.tuples(
        st.floats(0, 2, width=16),  # after the one before
        st.integers(1, 700),  # prompt tokens
        st.integers(1, 120),  # output tokens
        st.integers(0, 3),  # which chain
        st.one_of(st.none(), st.floats(0, 1, width=16)),  # aborted so much later
    ),
    min_size=1,
    max_size=12,
)


def play(model: Engine, arrivals: list, polls: list[float]) -> tuple[dict, tuple]:
    """Submit and abort at the given times and advance at `polls`; per request what happened,
    tokens summed."""
    calls: list[tuple] = []
    now = 0.0
    for index, (gap, prompt, output, seed, abort) in enumerate(arrivals):
        now += gap
        hashes = chain(seed, prompt // 16) + chain(1000 + index, 60)  # outputs differ
        calls.append((now, 0, Request(str(index), hashes, prompt, output)))
        if abort is not None:
            calls.append((now + abort, 1, str(index)))
    calls += [(at, 2, "") for at in polls]
    out: list = []
    for at, kind, what in sorted(calls, key=lambda call: (call[0], call[1], str(call[2]))):
        if kind == 0:
            model.submit(what, at)
        elif kind == 1:
            model.abort(what, at)
        else:
            out += model.advance(at)
    out += drain(model)
    said: dict = {}
    for emission in out:
        if isinstance(emission, Tokens):
            key = (emission.id, "tokens")
            said[key] = said.get(key, 0) + emission.tokens
        else:
            said.setdefault((emission.id, type(emission).__name__), []).append(emission)
    return said, model.gauges()


@settings(max_examples=150, deadline=None)
@given(
    arrivals=ARRIVALS,
    polls=st.lists(st.floats(0, 20, width=16), max_size=10),
    hbm_blocks=st.integers(55, 120),
    dram=st.sampled_from([0, 512, 5120]),
    seats=st.integers(1, 4),
)
def test_jumping_equals_stepping(arrivals, polls, hbm_blocks, dram, seats):
    limits = EngineLimits(
        hbm_tokens=16 * hbm_blocks, dram_tokens=dram, max_num_batched_tokens=200, max_num_seqs=seats
    )
    rates = EngineRates(prefill_tok_s=977.0, decode_step_s=0.0137, dram_tok_s=5003.0)
    jumping, gauges = play(Engine(rates, limits), arrivals, polls)
    stepping, expected = play(Engine(rates, limits, decode_jumps=False), arrivals, [])
    assert jumping.keys() == stepping.keys()
    for key, value in stepping.items():
        if key[1] == "tokens":
            assert jumping[key] == value
            continue
        for ours, theirs in zip(jumping[key], value, strict=True):
            numbers = [n for n in ours if isinstance(n, (int, float))]
            assert numbers == pytest.approx([n for n in theirs if isinstance(n, (int, float))])
    assert gauges == expected
    assert (gauges.running, gauges.waiting, gauges.kv_usage) == (0, 0, 0)


@settings(max_examples=100, deadline=None)
@given(arrivals=ARRIVALS, hbm_blocks=st.integers(55, 120))
def test_everyone_ends_when_requests_generate_the_same_blocks(arrivals, hbm_blocks):
    limits = EngineLimits(hbm_tokens=16 * hbm_blocks, max_num_batched_tokens=200, max_num_seqs=4)
    model = Engine(RATES, limits)
    for index, (_, prompt, output, seed, _) in enumerate(arrivals):
        model.submit(Request(str(index), chain(seed, 60), prompt, output), index / 10)
    ends = [e for e in drain(model) if isinstance(e, Finished)]
    assert {e.id for e in ends} == {str(index) for index in range(len(arrivals))}
    assert model.gauges().kv_usage == 0


def test_a_long_decode_is_one_event():
    model = engine()
    model.submit(request("a", 16, 6000), 0.0)
    assert len(list(iter_events(model))) == 3  # start, first token, end


def iter_events(model: Engine):
    while (at := model.next_event_time()) is not None:
        yield at
        model.advance(at)


def test_token_times_are_where_a_server_calls():
    model = engine()
    model.submit(request("a", 100, 5), 0.0)
    model.advance(0.0)
    times = []
    while (at := model.next_token_time()) is not None:
        times.append(at)
        model.advance(at)
    assert times == pytest.approx([0.1, 0.11, 0.12, 0.13, 0.14])


def test_time_does_not_go_back():
    model = engine()
    model.advance(1.0)
    with pytest.raises(AssertionError):
        model.advance(0.5)
    assert not math.isinf(model.gauges().kv_usage)


def test_what_a_peer_holds_is_loaded_at_the_rate_of_the_wire():
    model = engine(EngineRates(prefill_tok_s=1000, decode_step_s=0.01, transfer_tok_s=10_000))
    model.submit(Request("a", chain(0, 70), 1001, 2, remote_tokens=1001), 0.0)
    out = drain(model)
    admitted = of(Admitted, out)
    assert (admitted.hbm_hit, admitted.remote_hit, admitted.computed) == (0, 992, 9)
    assert of(FirstToken, out).time_s == pytest.approx(992 / 10_000 + 9 / 1000)
    assert model.gauges().cached_prompt_tokens == 992
    # Loaded blocks are cached like computed ones.
    model.submit(Request("b", chain(0, 70), 1001, 2), 10.0)
    assert of(Admitted, drain(model), "b").hbm_hit == 992


def test_only_what_is_missed_is_loaded():
    model = engine()
    model.submit(Request("a", chain(0, 70), 801, 1), 0.0)
    drain(model)
    model.submit(Request("b", chain(0, 70), 1001, 1, remote_tokens=1001), 10.0)
    admitted = of(Admitted, drain(model), "b")
    assert (admitted.hbm_hit, admitted.remote_hit) == (800, 192)


def test_loads_from_peers_queue_behind_each_other():
    model = engine(EngineRates(prefill_tok_s=100_000, decode_step_s=0.01, transfer_tok_s=1000))
    for name, seed in (("a", 1), ("b", 2)):
        model.submit(Request(name, chain(seed, 40), 513, 1, remote_tokens=513), 0.0)
    out = drain(model)
    assert of(FirstToken, out, "a").time_s == pytest.approx(0.512, abs=0.001)
    assert of(FirstToken, out, "b").time_s == pytest.approx(1.024, abs=0.001)


def test_what_is_kept_for_a_peer_takes_room_until_it_is_let_go():
    model = engine(hbm_tokens=1600)
    model.submit(Request("a", chain(1, 63), 1001, 1, keeps=True), 0.0)
    drain(model)
    assert model.gauges().kv_usage == pytest.approx(63 / 100)
    model.submit(Request("b", chain(2, 63), 1001, 1), 10.0)
    assert not [e for e in drain(model) if isinstance(e, FirstToken)]
    assert model.let_go("a", 20.0)
    assert not model.let_go("a", 20.0)
    assert of(FirstToken, drain(model), "b").time_s == pytest.approx(21.0, abs=0.01)
    assert model.gauges().kv_usage == 0


def test_an_aborted_prefill_keeps_nothing():
    model = engine()
    model.submit(Request("a", chain(1, 63), 1001, 1, keeps=True), 0.0)
    model.abort("a", 0.1)
    assert not model.let_go("a", 0.2)
    assert model.gauges().kv_usage == 0
