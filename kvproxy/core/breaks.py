"""Why a prompt does not go on where the one before it left off.

Two chains are compared segment by segment, so what changed is known by kind and place without any
of its bytes.
"""

from bisect import bisect_left
from enum import StrEnum

from msgspec import Struct

from kvproxy.core.items import HEAD_KINDS, Kind, kind_of, loosely_equal
from kvproxy.core.types import Chain

# A history that shrank below this share of its text was summarised; less was edited.
_COMPACTED_SHARE = 0.6
# Of the longer of two prompts. Below this share a history under another head was quoted by a call
# beside it, as by one that asks for a title of the first message.
_QUOTED_SHARE = 0.5


class Cause(StrEnum):
    """GROWN and REWOUND lose nothing; all but SIDE_CALL concern one conversation."""

    GROWN = "grown"
    REWOUND = "rewound"
    MODEL_CHANGED = "model_changed"
    TEMPLATE_CHANGED = "template_changed"
    SYSTEM_CHANGED = "system_changed"
    VOLATILE_TEXT = "volatile_text"
    TOOLS_CHANGED = "tools_changed"
    TOOLS_REORDERED = "tools_reordered"
    OTHER_HEAD = "other_head"
    COMPACTION = "compaction"
    HISTORY_DROPPED = "history_dropped"
    HISTORY_EDITED = "history_edited"
    SIDE_CALL = "side_call"


# The old history may still go on: what looks like an end may have been a call beside it.
BRANCHING = frozenset(
    {Cause.COMPACTION, Cause.HISTORY_DROPPED, Cause.HISTORY_EDITED, Cause.OTHER_HEAD}
)
HARMLESS = frozenset({Cause.GROWN, Cause.REWOUND, Cause.SIDE_CALL})


class Break(Struct, frozen=True, gc=False):
    """`segment` is the first that differs, `blocks` is how many blocks both prompts share."""

    cause: Cause
    segment: int
    blocks: int


def shared_segments(before: Chain, now: Chain) -> int:
    """How many segments both begin with; 0 for different models."""
    if before.root != now.root:
        return 0
    old, new = before.items, now.items
    shortest = min(len(old), len(new))
    if old[:shortest] == new[:shortest]:
        return shortest
    pairs = zip(old, new, strict=False)
    return next(index for index, (one, other) in enumerate(pairs) if one != other)


def shared_blocks(before: Chain, now: Chain) -> int:
    """Hashes cover all that precedes them: once they differ they never agree again."""
    old, new = before.hashes, now.hashes
    shortest = min(len(old), len(new))
    if not shortest or old[shortest - 1] == new[shortest - 1]:
        # As is nearly always so: one goes on where the other ends.
        return shortest
    return bisect_left(range(shortest), True, key=lambda index: old[index] != new[index])


def compare(before: Chain, now: Chain) -> Break:
    """What became of `before` in `now`, the next prompt of the same conversation."""
    old, new, blocks = before.hashes, now.hashes, len(before.hashes)
    if 0 < blocks <= len(new) and old[-1] == new[blocks - 1]:
        # As is nearly always so. The hash covers all of it, the model too.
        return Break(Cause.GROWN, len(before.items), blocks)
    segment = shared_segments(before, now)
    return Break(_cause(before, now, segment), segment, shared_blocks(before, now))


def _cause(before: Chain, now: Chain, segment: int) -> Cause:
    old, new = before.items[segment:], now.items[segment:]
    if before.root != now.root:
        return Cause.MODEL_CHANGED if _history(before) & _history(now) else Cause.SIDE_CALL
    if not old:
        return Cause.GROWN
    if not new:
        return Cause.REWOUND
    if kind_of(old[0]) in HEAD_KINDS or kind_of(new[0]) in HEAD_KINDS:
        return _head_cause(before, now, segment)
    if _text(now) < _COMPACTED_SHARE * _text(before):
        return Cause.COMPACTION
    dropped = {item: index for index, item in enumerate(old)}.get(new[0], 0)
    if dropped and old[dropped:] == new[: len(old) - dropped]:
        return Cause.HISTORY_DROPPED
    return Cause.HISTORY_EDITED


def _head_cause(before: Chain, now: Chain, segment: int) -> Cause:
    """Another head before another history is another prompt, not a change of this one."""
    shared = _history(before) & _history(now)
    if not shared:
        return Cause.SIDE_CALL
    old, new = _of(before, Kind.TOOL), _of(now, Kind.TOOL)
    one, other = _of(before, Kind.SYSTEM), _of(now, Kind.SYSTEM)
    changed = [pair for pair in zip(one, other, strict=False) if pair[0] != pair[1]]
    alike = all(loosely_equal(*pair) for pair in changed)
    if (not alike or bool(one) != bool(other)) and not set(old) & set(new):
        if _text_of(before, shared) < _QUOTED_SHARE * max(_text(before), _text(now)):
            return Cause.SIDE_CALL
        if old or new:
            return Cause.OTHER_HEAD
    if changed:
        return Cause.VOLATILE_TEXT if alike else Cause.SYSTEM_CHANGED
    if old != new:
        return Cause.TOOLS_REORDERED if sorted(old) == sorted(new) else Cause.TOOLS_CHANGED
    kinds = {kind_of(chain.items[segment]) for chain in (before, now)}
    return Cause.TEMPLATE_CHANGED if Kind.FRAME in kinds else Cause.SYSTEM_CHANGED


def _history(chain: Chain) -> set[int]:
    return {item for item in chain.items if kind_of(item) not in HEAD_KINDS}


def _of(chain: Chain, kind: Kind) -> list[int]:
    return [item for item in chain.items if kind_of(item) is kind]


def _text(chain: Chain) -> int:
    return chain.text_bytes[-1] if chain.text_bytes else 0


def _text_of(chain: Chain, items: set[int]) -> int:
    """How much text these segments have."""
    ends = [0, *(chain.text_bytes[end - 1] for end in chain.segment_ends)]
    return sum(
        ends[index + 1] - ends[index] for index, item in enumerate(chain.items) if item in items
    )
