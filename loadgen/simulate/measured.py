"""When a DRAM tier pays on a machine that was calibrated: one replica, more and more users.

Both arms have the same HBM. The one with DRAM writes what it computes to it, which slows prefill
by the measured share, and loads at the measured rate what HBM no longer holds.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

from rich.table import Table

from kvproxy.core.tier_costs import TierCosts
from loadgen.simulate.presets import Step, crossover_table, tier_steps
from loadgen.simulate.run import Setup
from loadgen.traces.model import Trace

# Shares of the conversations that fill HBM with contexts of a typical length.
_SHARES = (0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0)
_CONTEXT_TOKENS = 70_000
_DURATION_S = 3600.0


def measured_crossover(
    traces: Sequence[Trace], costs: TierCosts, setup: Setup, tell: Callable[[str], None]
) -> list[Step]:
    """`setup` says everything but the users; its `dram_tokens` are the second arm's."""
    fitting = setup.limits.hbm_tokens / _CONTEXT_TOKENS
    steps: list[Step] = []
    for users in sorted({max(1, round(share * fitting)) for share in _SHARES}):
        tell(f"{users} users")
        duration_s = setup.duration_s or _DURATION_S
        steps += tier_steps(
            traces,
            lambda arm, seed: arm_setup(setup, costs, arm, seed),
            (users,),
            (setup.seed,),
            duration_s,
        )
    return steps


def arm_setup(setup: Setup, costs: TierCosts, arm: str, seed: int) -> Setup:
    """`hbm` or `dram`, of one replica."""
    alone = replace(setup, replicas=1, seed=seed)
    if arm == "hbm":
        return replace(alone, limits=replace(setup.limits, dram_tokens=0))
    slower = 1.0 + costs.dram_write_share
    rates = setup.rates
    written = replace(
        rates,
        prefill_tok_s=rates.prefill_tok_s / slower,
        attn_s_per_tok2=rates.attn_s_per_tok2 * slower,
    )
    return replace(alone, rates=written)


def measured_table(setup: Setup, steps: Sequence[Step]) -> Table:
    table = crossover_table(setup.limits.hbm_tokens, steps)
    table.caption = f"with {setup.limits.dram_tokens:,} tokens of DRAM; ratios are DRAM over HBM"
    return table
