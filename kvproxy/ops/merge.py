"""Counters of several processes as those of one, which never go down when one of them ends."""

import contextlib
import logging
import os
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path

import msgspec

from kvproxy.ops.tally import Rows, Spread, Tally

log = logging.getLogger("kvproxy.metrics")

# What is sent and kept: the same with lists, since MessagePack's maps have no tuples for keys.
Plain = dict[str, list[tuple[list[str], list[float]]]]

# Workers that ended are kept apart, should they only have lost their connection; beyond so many,
# the longest unheard count as one that never comes back.
_APART_MAX = 64
_PAST = ""

_HOP_S = (5e-5, 1e-4, 1.5e-4, 2e-4, 3e-4, 5e-4, 1e-3, 2e-3, 5e-3, 1e-2, 0.1, 1)


def hop_seconds() -> Spread:
    text = "What asking the placement process added to a decision, without the deciding"
    return Spread("kvproxy_hop_seconds", text, _HOP_S)


def hop_alone() -> Tally:
    text = "Decisions that workers made by themselves (lost: nobody answered, full: too slowly)"
    return Tally("kvproxy_hop_alone", text, ("reason",))


def plain(rows: Mapping[str, Rows]) -> Plain:
    return {
        name: [(list(labels), row) for labels, row in by_labels.items()]
        for name, by_labels in rows.items()
    }


class WorkerFigures:
    """The last that each worker said, also of those that are gone. `path` keeps it when this
    process ends too."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._said: OrderedDict[str, Plain] = OrderedDict()
        with contextlib.suppress(FileNotFoundError):
            read = msgspec.msgpack.decode(path.read_bytes(), type=dict[str, Plain])
            self._said = OrderedDict(read)

    def heard(self, worker: str, said: Plain) -> None:
        self._said[worker] = said
        self._said.move_to_end(worker)
        while len(self._said) > _APART_MAX:
            oldest = next(name for name in self._said if name != _PAST)
            past = [self._said.pop(oldest), self._said.pop(_PAST, {})]
            self._said[_PAST] = plain(_sum(past))
            self._said.move_to_end(_PAST)

    def total(self) -> dict[str, Rows]:
        return _sum(list(self._said.values()))

    def save(self) -> None:
        """Whole or not at all: on a disk that is full they only do not outlive this process."""
        aside = self._path.with_suffix(".new")
        try:
            aside.write_bytes(msgspec.msgpack.encode(dict(self._said)))
            os.replace(aside, self._path)
        except OSError as error:
            log.error("counters of workers are not kept in %s: %s", self._path, error)


def _sum(several: list[Plain]) -> dict[str, Rows]:
    total: dict[str, Rows] = {}
    for said in several:
        for name, listed in said.items():
            rows = total.setdefault(name, {})
            for labels, row in listed:
                before = rows.get(tuple(labels))
                if before is None:
                    rows[tuple(labels)] = list(row)
                else:
                    rows[tuple(labels)] = [a + b for a, b in zip(before, row, strict=True)]
    return total
