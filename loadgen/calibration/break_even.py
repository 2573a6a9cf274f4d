"""What the measured laws mean: when loading beats computing, and when a tier of DRAM pays."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from loadgen.calibration.fit import LoadLaw, PrefillLaw

_GB = 10**9


@dataclass(frozen=True, slots=True)
class Prefix:
    """Seconds to have `tokens` of prefix back in HBM, by loading and by computing them."""

    tokens: int
    load_s: float
    compute_s: float


@dataclass(frozen=True, slots=True)
class TierPays:
    """A DRAM tier of `dram_gb`: the working set from which it pays and up to which it holds all.

    `saved_s` is what one returning turn saves whose prefix was pushed out of HBM.
    """

    dram_gb: int
    holds_tokens: int
    pays_from_tokens: int | None
    covers_tokens: int
    saved_s: float


def prefixes(
    lengths: Sequence[int], load: LoadLaw, prefill: PrefillLaw, chunk: int
) -> list[Prefix]:
    return [Prefix(n, load.seconds(n), prefill.prompt_s(n, 0, chunk)) for n in lengths]


def shortest_worth_loading(load: LoadLaw, prefill: PrefillLaw, longest: int) -> int | None:
    """Tokens of the shortest prefix that loads faster than one step computes it; None if none."""
    return _first(longest, lambda n: load.seconds(n) < prefill.step_s(n, 0))


def tier_pays(
    dram_gb: int,
    kv_bytes_per_token: int,
    hbm_tokens: int,
    returning: Prefix,
    overhead_s: float,
) -> TierPays:
    """With turns that come back to any conversation alike, a working set of W tokens misses HBM
    in 1 - H / W of them. The tier pays where that share of what loading saves is more than
    `overhead_s`, which every turn pays for writing its new tokens to the tier."""
    holds = dram_gb * _GB // kv_bytes_per_token
    saved_s = returning.compute_s - returning.load_s
    pays = overhead_s < saved_s
    return TierPays(
        dram_gb=dram_gb,
        holds_tokens=holds,
        pays_from_tokens=int(hbm_tokens / (1 - overhead_s / saved_s)) if pays else None,
        covers_tokens=hbm_tokens + holds,
        saved_s=saved_s,
    )


def _first(last: int, holds: Callable[[int], bool]) -> int | None:
    """Smallest n in 1..last that holds, for a condition that stays true; None if none does."""
    if not holds(last):
        return None
    low, high = 0, last
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle, high)
    return high
