import pytest

from loadgen.calibration.plan import BLOCKS, Plan


@pytest.mark.parametrize("context", [512, 4096, 128_000, 131_072])
def test_everything_planned_fits_the_cache(context: int) -> None:
    plan = Plan.up_to(context)
    assert all(new >= 1 and new + before <= context for new, before in plan.prefill)
    assert {0} < {before for _, before in plan.prefill}
    assert max(new + before for new, before in plan.prefill) == context
    assert all(batch * (before + 1) <= plan.cache_tokens for batch, before in plan.decode)
    assert max(plan.prompts) <= plan.cache_tokens <= 2 * context
    assert sum(plan.overlap) <= context
    assert plan.loads
    assert all(load <= plan.host_tokens and load % max(BLOCKS) == 0 for load in plan.loads)


def test_a_context_too_short_is_refused() -> None:
    with pytest.raises(ValueError, match="512"):
        Plan.up_to(511)
