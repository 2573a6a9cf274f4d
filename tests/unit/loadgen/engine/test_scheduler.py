import pytest

from loadgen.engine.block_store import BlockStore
from loadgen.engine.messages import Admitted, Request
from loadgen.engine.rates import EngineLimits, EngineRates
from loadgen.engine.scheduler import Scheduler
from loadgen.engine.sequence import Sequence

RATES = EngineRates(prefill_tok_s=1000, decode_step_s=0.01)


def scheduler(**limits: int) -> Scheduler:
    defaults = {"hbm_tokens": 1600, "max_num_batched_tokens": 100, "max_num_seqs": 4}
    sizes = EngineLimits(**(defaults | limits))
    return Scheduler(RATES, sizes, BlockStore(sizes))


def waiting(name: str, prompt: int, output: int = 10) -> Sequence:
    return Sequence(Request(name, b"", prompt, output), 0.0)


def decode(one: Sequence) -> Sequence:
    """As the engine leaves a sequence whose prefill is done."""
    one.computed, one.generated, one.decoding = one.known, 1, True
    return one


def test_budget_goes_to_prompts_in_order_of_arrival():
    plan = scheduler()
    first, second, third = waiting("a", 70), waiting("b", 70), waiting("c", 70)
    for one in (first, second, third):
        plan.add(one)
    out: list = []
    step = plan.plan(0.0, out)
    assert step is not None
    assert step.prefills == [(first, 70), (second, 30)]
    assert step.duration_s == pytest.approx(0.1)
    assert [e.id for e in out if isinstance(e, Admitted)] == ["a", "b"]
    assert list(plan.waiting) == [third]


def test_decodes_go_first():
    plan = scheduler()
    first, second = waiting("a", 10), waiting("b", 200)
    plan.add(first)
    plan.plan(0.0, [])
    decode(first)
    plan.add(second)
    step = plan.plan(1.0, [])
    assert step is not None
    assert (step.decodes, step.prefills) == ([first], [(second, 99)])
    assert step.duration_s == pytest.approx(0.01 + 0.099)


def test_decode_only_steps_repeat_until_the_first_end():
    plan = scheduler()
    first, second = waiting("a", 10, 40), waiting("b", 10, 7)
    plan.add(first)
    plan.add(second)
    plan.plan(0.0, [])
    decode(first)
    decode(second)
    step = plan.plan(1.0, [])
    assert step is not None
    assert step.repeats == 6


def test_the_newest_gives_way():
    plan = scheduler(hbm_tokens=64)
    old, new = waiting("a", 32, 20), waiting("b", 32, 20)
    plan.add(old)
    plan.add(new)
    plan.plan(0.0, [])
    decode(old)
    decode(new)
    step = plan.plan(1.0, [])
    assert step is not None
    assert step.decodes == [old]
    assert (list(plan.waiting), plan.preemptions, new.preemptions) == ([new], 1, 1)
    assert new.hold is None


def test_a_blocked_head_is_asked_again_only_after_a_release():
    plan = scheduler(hbm_tokens=64)
    first, second = waiting("a", 60), waiting("b", 60)
    plan.add(first)
    plan.add(second)
    plan.plan(0.0, [])
    assert list(plan.waiting) == [second]
    plan.finish(first)
    assert plan.next_start(5.0) == 5.0
    step = plan.plan(5.0, [])
    assert step is not None
    assert step.prefills == [(second, 60)]


def test_nothing_to_do():
    plan = scheduler()
    assert plan.next_start(1.0) is None
    assert plan.plan(1.0, []) is None
