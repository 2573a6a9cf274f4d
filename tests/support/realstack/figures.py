"""What came of a replay: hit rate, and how far predictions were off and why."""

from collections.abc import Sequence
from statistics import median

from tests.support.realstack.engine import BLOCK_TOKENS
from tests.support.realstack.replay import Asked


def hit_rate(asked: Sequence[Asked]) -> float:
    return sum(each.reported for each in asked) / sum(each.prompt for each in asked)


def is_within_a_block(asked: Asked) -> bool:
    """Whether its prediction was off by one engine block at most."""
    return abs(asked.error) <= BLOCK_TOKENS


def within_a_block(asked: Sequence[Asked]) -> float:
    return sum(is_within_a_block(each) for each in asked) / len(asked)


def report(title: str, asked: Sequence[Asked]) -> str:
    """A few lines: totals, then every cause of a prediction that was off."""
    prompts = sum(each.prompt for each in asked)
    ttft_s = median(each.ttft_s for each in asked)
    lines = [
        f"{title}: {len(asked)} requests, {prompts} prompt tokens, hit rate {hit_rate(asked):.1%}",
        f"  ttft p50 {ttft_s:.3f} s; predicted within a block: {within_a_block(asked):.1%}",
    ]
    for cause, errors in sorted(_causes(asked).items(), key=lambda item: -len(item[1])):
        spread = f"{min(errors):+} … {max(errors):+} tokens, median {median(errors):+g}"
        lines.append(f"  {len(errors):4} off by {spread}: {cause}")
    return "\n".join(lines)


def _causes(asked: Sequence[Asked]) -> dict[str, list[int]]:
    """Errors (reported less predicted) of more than a block, by what explains them."""
    found: dict[str, list[int]] = {}
    last: dict[str, Asked] = {}
    for each in asked:
        if not is_within_a_block(each):
            beside = any(_waits_for(each, other) for other in asked)
            cause = _cause(each, last.get(each.conversation), beside)
            found.setdefault(cause, []).append(each.error)
        last[each.conversation] = each
    return found


def _waits_for(each: Asked, other: Asked) -> bool:
    """Whether `other` had been sent to the same replica, and computed new blocks there, when
    `each` was sent and had no first token yet."""
    first_token = each.sent_at + each.ttft_s
    missed = other.prompt - other.reported > BLOCK_TOKENS
    began = other.sent_at < first_token and other.sent_at + other.ttft_s > each.sent_at
    return other is not each and other.replica == each.replica and missed and began


def _cause(each: Asked, before: Asked | None, beside: bool) -> str:
    if before is None:
        return "first turn: only part of a shared opening is held, its tokens are estimated"
    if each.rewound:
        return "history was cut: where it was cut there is no token count, only an estimate"
    if before.replica != each.replica:
        return "moved: met what others left on the new replica"
    if 0 < each.error <= before.answer + BLOCK_TOKENS:
        return "the answer was cached too: its text tokenised back to what was generated"
    if each.error < 0 and beside:
        return "evicted in flight: another request took the blocks while this one waited"
    if each.error < 0:
        return "evicted: the engine had already dropped what its model still holds"
    return "kept: the engine still holds what its model has already dropped"
