"""When a sample is large enough to say whether a share meets a bar.

The bar is asserted as it stands, on the sample as a whole. A sample below it is enlarged, since a
share just above the bar falls below it in a small sample now and then; it is given up as soon as
even the upper end of its 99 % interval lies below the bar.
"""

from collections import Counter
from collections.abc import Sequence
from enum import Enum

from loadgen.ramp.interval import Z_99, clustered
from tests.support.realstack.figures import is_within_a_block
from tests.support.realstack.replay import Asked


class Verdict(Enum):
    MET = "met"
    MISSED = "missed"
    OPEN = "open"


def interval(asked: Sequence[Asked]) -> tuple[float, float]:
    """Of the share within a block; requests of one conversation are right and wrong together."""
    all_of = Counter(each.conversation for each in asked)
    good = Counter(each.conversation for each in asked if is_within_a_block(each))
    return clustered([(good[name], count) for name, count in all_of.items()], Z_99)


def judge(asked: Sequence[Asked], bar: float, *, least: int, most: int) -> Verdict:
    """`least` and `most` requests make a sample."""
    within = sum(is_within_a_block(each) for each in asked)
    if len(asked) < least:
        return Verdict.OPEN
    if within >= bar * len(asked):
        return Verdict.MET
    out_of_reach = interval(asked)[1] < bar
    return Verdict.MISSED if out_of_reach or len(asked) >= most else Verdict.OPEN
