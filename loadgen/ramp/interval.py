"""A confidence interval for a share of requests, when those of a conversation go together."""

from collections.abc import Iterable
from math import sqrt

# Two-sided 95 % of a normal distribution.
Z_95 = 1.96
Z_99 = 2.576


def wilson(good: float, count: float, z: float) -> tuple[float, float]:
    """Bounds of the true share behind `good` of `count`; (0, 1) without any."""
    if count <= 0:
        return 0.0, 1.0
    share = good / count
    spread = z * sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    middle = share + z * z / (2 * count)
    scale = 1 + z * z / count
    return max(0.0, (middle - spread) / scale), min(1.0, (middle + spread) / scale)


def clustered(clusters: Iterable[tuple[int, int]], z: float) -> tuple[float, float]:
    """As `wilson`, from (good, count) of each conversation. Requests of one conversation succeed
    and fail together, so the count is divided by the design effect: the variance of the share
    between conversations over that of independent requests, never below one."""
    counted = [(good, count) for good, count in clusters if count]
    total = sum(count for _, count in counted)
    good = sum(part for part, _ in counted)
    if total == 0:
        return 0.0, 1.0
    share = good / total
    independent = share * (1 - share) / total
    if len(counted) < 2 or independent == 0:
        return wilson(good, total, z)
    residuals = sum((part - share * count) ** 2 for part, count in counted)
    between = residuals * len(counted) / (len(counted) - 1) / total**2
    effect = max(1.0, between / independent)
    return wilson(good / effect, total / effect, z)
