"""The prompts of one conversation, known ahead, as a tree of shared prefixes.

Each branch is a run of blocks that no request leaves except at its end. Token position p of a
prompt lies in block p // block_size; the tail of a prompt, which has no block id, is the start
of the block that a later request continues with.
"""

from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field

from loadgen.traces.model import BlockIds


@dataclass(slots=True, eq=False)
class Branch:
    """Blocks `first` … `first + len(ids)` of every prompt that passes through here.

    `ends` maps a token position inside the branch to the requests whose prompt ends there;
    `requests` are all that pass, both ascending.
    """

    number: int
    first: int
    ids: "array[int]"
    parent: "Branch | None" = None
    children: "dict[int, Branch]" = field(default_factory=dict)
    requests: list[int] = field(default_factory=list)
    ends: dict[int, list[int]] = field(default_factory=dict)

    @property
    def stop(self) -> int:
        """The block index after the last one."""
        return self.first + len(self.ids)

    def path(self) -> "list[Branch]":
        """From the root to here."""
        branches = [self]
        while (parent := branches[-1].parent) is not None:
            branches.append(parent)
        branches.reverse()
        return branches


class PrefixTree:
    """Built from (prompt tokens, block ids) of each request, in the order they were made.

    `root` has no blocks; `branches` lists all, parents first. `end_of[i]` is the branch that
    holds token `prompt_tokens[i] - trim` of request i, where `trim` tokens at the end of each
    prompt belong to whatever follows it (the template's generation prompt).
    """

    def __init__(
        self, prompts: Sequence[tuple[int, BlockIds]], block_size: int, trim: int = 0
    ) -> None:
        self.block_size = block_size
        self.root = Branch(0, 0, array("q"))
        self._count = 1
        ids = [blocks.packed() for _, blocks in prompts]
        for blocks in ids:
            self._insert(blocks)
        paths = [self._follow(blocks) for blocks in ids]
        for request, path in enumerate(paths):
            for branch in path:
                branch.requests.append(request)
        self.end_of: list[Branch] = []
        for request, (tokens, _) in enumerate(prompts):
            path = paths[request]
            if tokens > path[-1].stop * block_size:
                path = [*path, self._tail(path[-1], request)]
            self.end_of.append(self._end(path, max(0, tokens - trim), request))
        self.branches = self._in_order()

    def _insert(self, ids: "array[int]") -> None:
        branch, at = self.root, 0
        while at < len(ids):
            child = branch.children.get(ids[at])
            if child is None:
                self._grow(branch, ids[at:])
                return
            shared = _common(child.ids, ids, at)
            if shared < len(child.ids) and at + shared < len(ids):
                child = self._split(child, shared)
            branch, at = child, at + shared

    def _grow(self, branch: Branch, ids: "array[int]") -> None:
        """Continue with new blocks: in place when nothing else continues here."""
        if branch.children or branch is self.root:
            branch.children[ids[0]] = self._branch(branch.stop, ids, branch)
        else:
            branch.ids.extend(ids)

    def _split(self, branch: Branch, blocks: int) -> Branch:
        """Cut a branch after `blocks` blocks; returns the new upper part."""
        parent = branch.parent
        assert parent is not None, "the root has no blocks to split"
        upper = self._branch(branch.first, branch.ids[:blocks], parent)
        parent.children[upper.ids[0]] = upper
        branch.first += blocks
        branch.ids = branch.ids[blocks:]
        branch.parent = upper
        upper.children[branch.ids[0]] = branch
        return upper

    def _branch(self, first: int, ids: "array[int]", parent: Branch) -> Branch:
        self._count += 1
        return Branch(self._count - 1, first, ids, parent)

    def _follow(self, ids: "array[int]") -> list[Branch]:
        path = [self.root]
        while path[-1].stop < len(ids):
            path.append(path[-1].children[ids[path[-1].stop]])
        return path

    def _tail(self, branch: Branch, request: int) -> Branch:
        """The branch whose first block the tail of `request` opens: preferably that of the
        next request to come this way, so that extending a prompt keeps all of it."""
        follow = list(branch.children.values())
        later = [
            (min(after), child)
            for child in follow
            if (after := [other for other in child.requests if other > request])
        ]
        if later:
            return min(later, key=lambda pair: pair[0])[1]
        if follow:
            return follow[0]
        # No one continues: a block of its own, whose id no trace can hold.
        own = -(2**63) + branch.number
        child = self._branch(branch.stop, array("q", [own]), branch)
        branch.children[own] = child
        return child

    def _end(self, path: list[Branch], tokens: int, request: int) -> Branch:
        branch = path[-1]
        for branch in reversed(path):
            if branch.first * self.block_size < tokens or branch.parent is None:
                break
        branch.ends.setdefault(tokens, []).append(request)
        return branch

    def _in_order(self) -> list[Branch]:
        ordered = [self.root]
        for branch in ordered:
            ordered.extend(branch.children.values())
        for number, branch in enumerate(ordered):
            branch.number = number
        return ordered


def _common(edge: "array[int]", ids: "array[int]", at: int) -> int:
    """Length of the common prefix of `edge` and `ids[at:]`."""
    limit = min(len(edge), len(ids) - at)
    if edge[:limit] == ids[at : at + limit]:
        return limit
    low, high = 0, limit  # the first `low` are equal, the first `high` are not
    while high - low > 1:
        middle = (low + high) // 2
        if edge[low:middle] == ids[at + low : at + middle]:
            low = middle
        else:
            high = middle
    return low
