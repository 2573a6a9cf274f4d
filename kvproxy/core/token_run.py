"""Chains of token blocks that share their beginnings: a tree of runs, each stored once.

A position is a run and a length: the chain from its start to there. A conversation that only grows
stays one run, extended in place; a branch keeps only what differs.
"""

from array import array
from collections.abc import Sequence
from typing import NamedTuple

# A run, its array and the entry that refers to it.
_RUN_BYTES = 300


class TokenRun:
    """Blocks [start, end) of a chain whose first `start` blocks are those of `parent`."""

    __slots__ = ("hashes", "parent", "start", "users")

    def __init__(self, parent: "TokenRun | None", start: int) -> None:
        self.parent = parent
        self.start = start
        self.hashes = array("Q")
        self.users = 0

    @property
    def end(self) -> int:
        return self.start + len(self.hashes)


class Position(NamedTuple):
    run: TokenRun
    length: int

    def chain(self, upto: int | None = None) -> "array[int]":
        """The hashes of the first `upto` blocks, by default up to the position."""
        end = self.length if upto is None else upto
        run: TokenRun | None = self.run
        parts = []
        while run is not None and end:
            if run.start < end:
                parts.append(run.hashes[: end - run.start])
                end = run.start
            run = run.parent
        if len(parts) == 1:
            return parts[0]
        whole = array("Q")
        for part in reversed(parts):
            whole.extend(part)
        return whole

    def find(self, ours: int) -> "Position | None":
        """The position right behind block `ours` of this chain, if it is one of it."""
        run: TokenRun | None = self.run
        if (
            self.length > self.run.start
            and self.run.hashes[self.length - self.run.start - 1] == ours
        ):
            return self
        while run is not None:
            if ours in run.hashes:
                return Position(run, run.start + run.hashes.index(ours) + 1)
            run = run.parent
        return None


class TokenRuns:
    """Counts users of runs and their bytes; a run nobody uses any more is gone."""

    def __init__(self) -> None:
        self.bytes = 0

    def start(self) -> Position:
        """The empty chain, of a new run."""
        self.bytes += _RUN_BYTES
        return Position(TokenRun(None, 0), 0)

    def extend(self, at: Position, hashes: Sequence[int]) -> Position:
        """Behind `at` come `hashes`: in place if nothing else does, shared as far as it is the
        same, in a new run from where it differs."""
        run, length = at
        done = 0
        while (
            done < len(hashes)
            and length < run.end
            and (run.hashes[length - run.start] == hashes[done])
        ):
            length += 1
            done += 1
        if done == len(hashes):
            return Position(run, length)
        if length < run.end:
            branch = TokenRun(run, length)
            run.users += 1
            run = branch
            self.bytes += _RUN_BYTES
        run.hashes.extend(hashes[done:])
        self.bytes += 8 * (len(hashes) - done)
        return Position(run, length + len(hashes) - done)

    def keep(self, at: Position) -> None:
        at.run.users += 1

    def release(self, at: Position) -> None:
        """Give up what keep() kept."""
        run: TokenRun | None = at.run
        while run is not None:
            run.users -= 1
            assert run.users >= 0
            if run.users:
                return
            self.bytes -= _RUN_BYTES + 8 * len(run.hashes)
            run = run.parent
