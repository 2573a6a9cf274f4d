"""Whether a source of knowledge about a replica is to be believed: predicted against reported.

A prediction is wrong when the engine reports less than predicted by more than two blocks and a
twentieth, or more by more than two blocks and a quarter: promising what is not there costs a wrong
placement, knowing too little only a worse one. Of the last 32 predictions of a source for a replica
more than half must be wrong, and at least 8, before it is distrusted; it is predicted with all the
same, and regains trust when fewer than a quarter of 16 in a row are wrong. Either way counting
begins anew.
"""

from collections import deque
from collections.abc import Iterator
from enum import StrEnum
from typing import NamedTuple

_WINDOW = 32
_WRONG_MIN = 8
_REGAIN_WINDOW = 16
_LONG_TOKENS = 1024
_ZEROES_MAX = 3


class Source(StrEnum):
    """`history`: what this proxy sent there. `events`: what the engine announces. `coordinator`:
    what LMCache says that its servers hold."""

    HISTORY = "history"
    EVENTS = "events"
    COORDINATOR = "coordinator"


class Change(NamedTuple):
    """A source became distrusted or trusted; tokens are those of the prediction that did it."""

    replica: str
    source: Source
    trusted: bool
    wrong: int
    of: int
    predicted: int
    reported: int


class Trust:
    """Records by replica and source. Only observe and forget change it."""

    def __init__(self) -> None:
        # Of late predictions, whether they were wrong.
        self._records: dict[tuple[str, Source], deque[bool]] = {}
        self._zeroes: dict[str, int] = {}
        self.distrusted: set[tuple[str, Source]] = set()

    def trusts(self, replica: str, source: Source) -> bool:
        return not self.distrusted or (replica, source) not in self.distrusted

    def figures(self) -> Iterator[tuple[str, Source, float]]:
        """Share of late predictions that were right, by replica and source."""
        for (replica, source), record in self._records.items():
            yield replica, source, 1.0 - sum(record) / max(1, len(record))

    def observe(
        self, replica: str, source: Source, predicted: int, reported: int, block_size: int
    ) -> Change | None:
        """One prediction and what came of it, in tokens."""
        if not predicted and not reported:
            return None
        record = self._records.get((replica, source))
        if record is None:
            record = self._records[replica, source] = deque(maxlen=_WINDOW)
        # As most predictions are.
        right = predicted == reported or not is_wrong(predicted, reported, block_size)
        record.append(not right)
        trusted = not self.distrusted or (replica, source) not in self.distrusted
        if right and trusted:
            return None
        wrong, of = sum(record), len(record)
        if trusted:
            changed = wrong >= _WRONG_MIN and 2 * wrong > of
        else:
            late = list(record)[-_REGAIN_WINDOW:]
            changed = len(late) == _REGAIN_WINDOW and 4 * sum(late) < len(late)
        if not changed:
            return None
        if trusted:
            self.distrusted.add((replica, source))
        else:
            self.distrusted.discard((replica, source))
        record.clear()
        return Change(replica, source, not trusted, wrong, of, predicted, reported)

    def forget(self, replica: str) -> None:
        self._records = {by: kept for by, kept in self._records.items() if by[0] != replica}
        self.distrusted = {by for by in self.distrusted if by[0] != replica}
        self._zeroes.pop(replica, None)

    def restarted(self, replica: str, predicted: int, reported: int) -> bool:
        """Whether the replica reports nothing cached for one long prediction after another: then
        its cache was emptied without a word. Asked once for each request."""
        if reported or predicted < _LONG_TOKENS:
            if reported:
                self._zeroes.pop(replica, None)
            return False
        self._zeroes[replica] = self._zeroes.get(replica, 0) + 1
        if self._zeroes[replica] < _ZEROES_MAX:
            return False
        del self._zeroes[replica]
        return True


def is_wrong(predicted: int, reported: int, block_size: int) -> bool:
    """Tokens all three; see above."""
    if predicted > reported:
        return predicted - reported > max(2 * block_size, predicted / 20)
    return reported - predicted > max(2 * block_size, reported / 4)
