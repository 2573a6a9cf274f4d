"""Where turns went, in two runs of the same conversations."""

from typing import NamedTuple


class Decided(NamedTuple):
    """Where a turn of a conversation's agent went."""

    agent: tuple[str, str]
    replica: str


class Compared(NamedTuple):
    """Decisions of two runs. What differs is a first turn, or its conversation had begun elsewhere
    and stayed there in both; anything else is `unlike`."""

    same: int
    first: int
    stayed: int
    unlike: int

    def __str__(self) -> str:
        said = f"{self.same} of {sum(self)} the same"
        if self.same == sum(self):
            return said
        more = f"{self.first} first turns elsewhere, {self.stayed} stayed there"
        return f"{said}, {more}, {self.unlike} others"


def compared(some: list[Decided], others: list[Decided]) -> Compared:
    same = first = stayed = unlike = 0
    homes: dict[tuple[str, str], tuple[str, str]] = {}
    for one, other in zip(some, others, strict=True):
        assert one.agent == other.agent
        there = (one.replica, other.replica)
        if one.replica == other.replica:
            same += 1
        elif one.agent not in homes:
            first += 1
        elif homes[one.agent] == there:
            stayed += 1
        else:
            unlike += 1
        homes[one.agent] = there
    return Compared(same, first, stayed, unlike)
