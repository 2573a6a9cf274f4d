"""Ties positions of byte chains to chains of token blocks, without tokenising anything.

Every request carries its id to the engine as a session; the blocks it makes come back with that id
and with the parent they follow. Together with the prompt's token count from the answer's usage this
tells the token blocks of exactly this prompt: an anchor at the end of its byte chain. A later turn
looks for the deepest anchor of its own byte chain.
"""

from array import array
from collections import Counter, OrderedDict
from collections.abc import Callable
from typing import NamedTuple

from kvproxy.core.event_source import Grown, root
from kvproxy.core.token_run import Position, TokenRuns
from kvproxy.core.types import Chain

# As far back as the previous turn's end can be: the same as for token counts.
_LOOK_BACK_BLOCKS = 512
_OPEN_MAX = 4096
# The last blocks of an answer are announced as it ends, or were never made: of so many that ended
# they are waited for. Each holds its chain.
_ENDED_MAX = 512

# The chain that ends with a block, by what the engine announced; None where a link is missing.
PathOf = Callable[[int], "array[int] | None"]


class Anchor(NamedTuple):
    """The first `byte_blocks` blocks of a byte chain are `tokens` tokens, whose whole token blocks
    are the chain up to `at`; behind it come blocks of the answer, up to `answer_end` blocks."""

    byte_blocks: int
    tokens: int
    block_size: int
    at: Position
    answer_end: int


class _Open:
    """A request that is being answered, or whose last blocks were not announced yet; `heard` once
    any was, or it ended."""

    __slots__ = ("at", "block_size", "chain", "heard", "prompt_tokens", "replica")

    def __init__(self, replica: str, chain: Chain, block_size: int) -> None:
        self.replica = replica
        self.chain = chain
        self.block_size = block_size
        self.at: Position | None = None
        self.heard = False
        self.prompt_tokens = 0


class TokenChains:
    """Anchors of at most `max_bytes`, least recently used first out."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._runs = TokenRuns()
        self._anchors: OrderedDict[int, Anchor] = OrderedDict()
        self._open: OrderedDict[str, _Open] = OrderedDict()
        self._ended: OrderedDict[str, None] = OrderedDict()
        # How many requests of one id are under way, where they are more than one.
        self._several: dict[str, int] = {}
        self._unheard: Counter[str] = Counter()
        self.made = 0
        self.missed = 0

    def __len__(self) -> int:
        return len(self._anchors)

    @property
    def bytes(self) -> int:
        return self._runs.bytes

    def anchor(self, chain: Chain) -> Anchor | None:
        """The deepest anchor of `chain`."""
        anchors, hashes = self._anchors, chain.hashes
        if not anchors:
            return None
        for end in range(len(hashes), max(0, len(hashes) - _LOOK_BACK_BLOCKS), -1):
            found = anchors.get(hashes[end - 1])
            if found is not None and found.byte_blocks == end:
                return found
        return None

    def awaits(self, replica: str) -> bool:
        """Whether a request is under way there of which nothing was announced: what it makes and
        what it takes is still to be told."""
        return replica in self._unheard

    def opened(self, request_id: str, replica: str, chain: Chain) -> bool:
        """A request was sent with its id as session. False where others of that id, which clients
        choose, are under way: which of them made a block cannot be told."""
        before = self._open.get(request_id)
        if request_id in self._several or (before is not None and not before.prompt_tokens):
            self._close(request_id)
            self._several[request_id] = self._several.pop(request_id, 1) + 1
            if len(self._several) > _OPEN_MAX:
                del self._several[next(iter(self._several))]
            return False
        self._close(request_id)
        self._open[request_id] = _Open(replica, chain, 0)
        self._unheard[replica] += 1
        if len(self._open) > _OPEN_MAX:
            self._close(next(iter(self._open), ""))
        return True

    def grown(self, replica: str, grown: Grown, block_size: int, path: PathOf) -> None:
        """A request made blocks."""
        request = self._open.get(grown.session)
        if request is None or request.replica != replica:
            return
        self._hear(request)
        request.block_size = block_size
        base = self._base(request, grown.parent, path)
        if base is None:
            self.missed += 1
            return
        at = self._runs.extend(base, grown.hashes)
        self._runs.keep(at)
        if request.at is not None:
            self._runs.release(request.at)
        request.at = at
        if request.prompt_tokens:
            self._file(grown.session, request)

    def finished(self, request_id: str, prompt_tokens: int) -> None:
        """The answer's usage tells how long the prompt was; 0 when there is none."""
        request = self._open.get(request_id)
        if request is None:
            if request_id in self._several:
                self._several[request_id] -= 1
                if not self._several[request_id]:
                    del self._several[request_id]
            return
        self._hear(request)
        if not prompt_tokens:
            self._close(request_id)
            return
        request.prompt_tokens = prompt_tokens
        self._file(request_id, request)
        self._ended[request_id] = None
        if len(self._ended) > _ENDED_MAX:
            self._close(next(iter(self._ended)))

    def tokenised(self, chain: Chain, tokens: int, names: "array[int]", block_size: int) -> None:
        """Anchor a prompt of so many `tokens` by the names of its own blocks, for engines whose
        announcements name no request."""
        known = self.anchor(chain)
        if not len(chain) or (known is not None and known.byte_blocks == len(chain)):
            return
        same = known is not None and known.block_size == block_size
        start, done = self._runs.start() if known is None or not same else _first_run(known.at), 0
        if known is not None and same and names[: known.at.length] == known.at.chain():
            # As is nearly always so: it goes on, and is not compared block by block.
            start, done = known.at, known.at.length
        at = self._runs.extend(start, names[done:])
        self._keep(chain, tokens, block_size, at)

    def _base(self, request: _Open, parent: int, path: PathOf) -> Position | None:
        """Where the new blocks begin: behind the request's own last one, somewhere on the chain
        it was known to have, or on a path that only the engine's announcements tell."""
        if request.at is not None:
            return request.at.find(parent)
        if parent == root(request.block_size):
            known = self.anchor(request.chain)
            first = (
                _first_run(known.at) if known and known.block_size == request.block_size else None
            )
            return first if first is not None else self._runs.start()
        known = self.anchor(request.chain)
        if known is not None:
            found = known.at.find(parent)
            if found is not None:
                return found
        blocks = path(parent)
        return None if blocks is None else self._runs.extend(self._runs.start(), blocks)

    def _file(self, request_id: str, request: _Open) -> None:
        """Anchor the prompt once all its whole blocks are known, and again as its answer grows."""
        at, chain = request.at, request.chain
        if at is None or not len(chain):
            return
        if at.length >= request.prompt_tokens // request.block_size:
            self._keep(chain, request.prompt_tokens, request.block_size, at)

    def _keep(self, chain: Chain, prompt_tokens: int, block_size: int, at: Position) -> None:
        blocks = prompt_tokens // block_size
        old = self._anchors.pop(chain.end, None)
        self._runs.keep(at)
        if old is not None:
            self._runs.release(old.at)
        else:
            self.made += 1
        self._anchors[chain.end] = Anchor(
            len(chain),
            prompt_tokens,
            block_size,
            Position(at.run, blocks),
            at.length,
        )
        while self._runs.bytes > self._max_bytes and len(self._anchors) > 1:
            self._drop_oldest()
            self._close(next(iter(self._open), ""))

    def _drop_oldest(self) -> None:
        _, anchor = self._anchors.popitem(last=False)
        self._runs.release(anchor.at)

    def _close(self, request_id: str) -> None:
        request = self._open.pop(request_id, None)
        if request is None:
            return
        self._ended.pop(request_id, None)
        self._hear(request)
        if request.at is not None:
            self._runs.release(request.at)

    def _hear(self, request: _Open) -> None:
        if not request.heard:
            request.heard = True
            self._unheard[request.replica] -= 1
            if not self._unheard[request.replica]:
                del self._unheard[request.replica]


def _first_run(at: Position) -> Position:
    run = at.run
    while run.parent is not None:
        run = run.parent
    return Position(run, 0)
