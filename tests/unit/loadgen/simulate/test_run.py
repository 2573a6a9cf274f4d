from dataclasses import replace

import pytest

from kvproxy.core.policies import PolicyName
from loadgen.engine_model import EngineLimits
from loadgen.schedule import Timing
from loadgen.simulate.run import Arm, Setup, TooShortError, jain, simulate, summarise
from tests.support.traces import growing

TRACES = [growing(f"t{n}", [400 + 40 * turn for turn in range(6)]) for n in range(6)]
SETUP = Setup(
    conversations=4,
    replicas=2,
    limits=EngineLimits(hbm_tokens=64_000, block_size=16),
    timing=Timing(think_cap_s=5, start_spread_s=1),
    warm_prefix_pct=0.0,
)


@pytest.mark.parametrize("fluid", [False, True])
@pytest.mark.parametrize("policy", list(PolicyName))
def test_every_policy_plays_every_turn_once(policy: PolicyName, fluid: bool) -> None:
    outcome = simulate(TRACES, replace(SETUP, fluid=fluid), Arm(policy, holds_back=False))
    assert len(outcome.samples) == 36
    assert all(
        s.asked_at <= s.placed_at < s.first_token_at <= s.finished_at for s in outcome.samples
    )


def test_the_same_seed_gives_the_same_run_and_another_a_different_one() -> None:
    def figures(seed: int) -> object:
        setup = replace(SETUP, seed=seed)
        return summarise(simulate(TRACES, setup, Arm.named("seconds")), setup)

    assert figures(1) == figures(1)
    assert figures(1) != figures(2)


def test_stickiness_hits_all_that_an_unlimited_cache_would() -> None:
    sticky = summarise(simulate(TRACES, SETUP, Arm.named("sticky_least_loaded")), SETUP)
    turning = summarise(simulate(TRACES, SETUP, Arm.named("round_robin")), SETUP)
    assert sticky.hit_rate_reported > turning.hit_rate_reported
    assert sticky.within_one_block == 1.0


def test_prompts_alone_tell_conversations_apart() -> None:
    unnamed = replace(SETUP, unnamed=True)
    named, alike = (
        summarise(simulate(TRACES, setup, Arm.named("seconds")), setup)
        for setup in (SETUP, unnamed)
    )
    assert alike.hit_rate_reported >= named.hit_rate_reported - 0.02
    # Who is told apart by names alone has none here, and places everything alike.
    sticky = Arm.named("sticky_least_loaded")
    lost = summarise(simulate(TRACES, unnamed, sticky), unnamed)
    assert (
        lost.hit_rate_reported < summarise(simulate(TRACES, SETUP, sticky), SETUP).hit_rate_reported
    )


def test_names_say_whether_an_arm_holds_back() -> None:
    assert Arm.named("seconds").holds_back
    assert not Arm.named("seconds-queue").holds_back
    assert Arm.named("round_robin+queue") == Arm(PolicyName.ROUND_ROBIN, holds_back=True)
    for wrong in ("fastest", "seconds+luck"):
        with pytest.raises(ValueError, match=wrong.split("+")[-1]):
            Arm.named(wrong)


def test_jain_is_one_for_equals_and_one_nth_for_a_monopoly() -> None:
    assert jain([3, 3, 3]) == pytest.approx(1)
    assert jain([5, 0, 0, 0]) == pytest.approx(0.25)


def test_who_still_waits_when_the_run_ends_is_counted() -> None:
    slow = replace(SETUP.rates, prefill_tok_s=100.0)
    setup = replace(SETUP, replicas=1, rates=slow, duration_s=25.0)
    outcome = simulate(TRACES, setup, Arm.named("round_robin"))
    assert len(outcome.silent) == 3  # of four users one is being prefilled or read
    found = summarise(outcome, setup)
    waits = [outcome.clock_s - sample.asked_at for sample in outcome.silent]
    assert found.silent_max_s == max(waits)
    assert found.silent_beyond_p95 == sum(wait > found.ttft_p95_s for wait in waits)
    whole = simulate(TRACES, SETUP, Arm.named("round_robin"))
    assert summarise(whole, SETUP).silent_beyond_p95 == 0


def test_answers_of_one_token_have_no_time_between_tokens() -> None:
    short = replace(SETUP, output_tokens_max=1)
    assert summarise(simulate(TRACES, short, Arm.named("seconds")), short).itl_p50_s == 0.0
    mixed = [growing("a", [400, 440]), growing("b", [400])]
    turns = mixed[1].turns[0]
    mixed[1] = replace(mixed[1], steps=(replace(turns, output_tokens=1),) * 5)
    found = summarise(simulate(mixed, SETUP, Arm.named("seconds")), SETUP)
    assert found.itl_p50_s >= SETUP.rates.decode_step_s - 1e-9


def test_nothing_finished() -> None:
    setup = replace(SETUP, duration_s=0.001)
    with pytest.raises(TooShortError):
        summarise(simulate(TRACES, setup, Arm.named("seconds")), setup)
