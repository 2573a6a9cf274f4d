"""Block-exact chat prompts: equal block ids of a trace become equal text.

Messages are rendered to JSON once and joined for each body; the history is never serialised
again. Equal (seed, trace, play, block) always give equal bytes; another play of the same trace
shares only the warm prefix.
"""

from dataclasses import dataclass, field
from math import floor

from loadgen.layout import Layout, Message, Overhead, Shape
from loadgen.prefix_tree import Branch, PrefixTree
from loadgen.text import WordPool, owner_id
from loadgen.traces.model import Trace, Turn
from loadgen.warm import Warm

_TOOL = "run"


@dataclass(frozen=True, slots=True)
class ContentSettings:
    """How prompts are made. `tokens_per_word` is measured for a real tokeniser (≥ 1)."""

    seed: int = 1
    warm: Warm = field(default_factory=Warm)
    overhead: Overhead = field(default_factory=Overhead)
    tokens_per_word: float = 1.0


@dataclass(frozen=True, slots=True)
class Prompt:
    """The messages of one request as JSON fragments, and its length in tokens as planned."""

    fragments: list[bytes]
    tokens: int


class Conversation:
    """One play of one trace. `lanes` numbers its requests: lane 0 is the conversation itself,
    lane k its k-th sub-agent; `request(lane, turn)` is the number of a turn."""

    def __init__(
        self, trace: Trace, pool: WordPool, settings: ContentSettings, play: int = 0
    ) -> None:
        self.trace = trace
        self.play = play
        self._pool = pool
        self._settings = settings
        self._owner = owner_id(settings.seed, trace.id, play)
        if trace.shared_ids:
            self._owner = owner_id(settings.seed, "", play)
        lanes = [(trace.turns, trace.fixed_tokens)]
        lanes += [(agent.turns, agent.fixed_tokens) for agent in trace.sub_agents]
        warm = [
            settings.warm.blocks(fixed, trace.block_size, sub_agent=lane > 0)
            for lane, (_, fixed) in enumerate(lanes)
        ]
        self._first = [0]
        turns: list[Turn] = []
        shapes: list[Shape] = []
        for (lane_turns, fixed), shared in zip(lanes, warm, strict=True):
            turns += lane_turns
            # The system message is what is shared; what is one's own follows in the next message.
            system = shared * trace.block_size or fixed
            shapes += [Shape(turn.output_tokens, turn.tool_result, system) for turn in lane_turns]
            self._first.append(len(turns))
        over = settings.overhead
        self.tree = PrefixTree(
            [(turn.input_tokens, turn.blocks) for turn in turns],
            trace.block_size,
            over.generation,
        )
        self.layout = Layout(self.tree, shapes, over)
        self._warm = self._warm_blocks(turns, warm)
        self._rendered: list[list[bytes | None]] = [
            [None] * len(messages) for messages in self.layout.messages
        ]

    def request(self, lane: int, turn: int) -> int:
        return self._first[lane] + turn

    def prompt(self, request: int) -> Prompt:
        place = self.layout.places[request]
        fragments: list[bytes] = []
        for branch in place.branch.path():
            count = len(self.layout.messages[branch.number])
            if branch is place.branch:
                count = place.messages
            fragments += [self._fragment(branch, index) for index in range(count)]
        if not fragments:  # a recorded prompt of no tokens still has to ask something
            fragments = [b'{"role":"user","content":" the"}']
        return Prompt(fragments, self.planned_tokens(request))

    def planned_tokens(self, request: int) -> int:
        """Prompt tokens of a request as the template overhead predicts them."""
        over = self._settings.overhead
        return (self.layout.places[request].tokens or over.base + over.user + 1) + over.generation

    def warm_tokens(self, request: int) -> tuple[str, int]:
        """How many leading tokens of this prompt every conversation shares, and with whom:
        conversations share one warm prefix, sub-agents another."""
        kind = "main" if request < self._first[1] else "subagent"
        path = self.layout.places[request].branch.path()
        if len(path) < 2 or not path[1].ids or path[1].ids[0] not in self._warm:
            return kind, 0
        blocks = 0
        for branch in path[1:]:
            warm = [block in self._warm for block in branch.ids]
            blocks += warm.index(False) if False in warm else len(warm)
            if False in warm:
                break
        opening = self.layout.messages[path[1].number]
        whole = opening[0].end if opening else 0
        return kind, min(blocks * self.trace.block_size, whole)

    def _warm_blocks(self, turns: list[Turn], shares: list[int]) -> dict[int, tuple[int, int]]:
        """Block id → (owner, position) for the blocks that all conversations share.

        Only the first to claim a position gets it: two sub-agents of a trace whose first
        blocks differ must not become equal.
        """
        warm: dict[int, tuple[int, int]] = {}
        claimed: set[tuple[int, int]] = set()
        for lane, share in enumerate(shares):
            owner = owner_id(self._settings.seed, "warm", "main" if lane == 0 else "subagent")
            if self._first[lane] == self._first[lane + 1]:
                continue
            for position, block in enumerate(turns[self._first[lane]].blocks.prefix(share)):
                if block not in warm and (owner, position) not in claimed:
                    claimed.add((owner, position))
                    warm[block] = (owner, position)
        return warm

    def _fragment(self, branch: Branch, index: int) -> bytes:
        done = self._rendered[branch.number][index]
        if done is None:
            message = self.layout.messages[branch.number][index]
            done = self._rendered[branch.number][index] = self._render(branch, message)
        return done

    def _render(self, branch: Branch, message: Message) -> bytes:
        text = self._words(branch, message.text, message.end)
        extra = b""
        if message.call >= 0:
            call = self._pool.block_text(self._owner, -1 - message.call, 3).replace(b" ", b"")
            if message.role == "assistant":
                extra = (
                    b',"tool_calls":[{"id":"%s","type":"function","function":'
                    b'{"name":"%s","arguments":"{}"}}]' % (call, _TOOL.encode())
                )
            else:
                extra = b',"tool_call_id":"%s"' % call
        return b'{"role":"%s","content":"%s"%s}' % (message.role.encode(), text, extra)

    def _words(self, branch: Branch, start: int, end: int) -> bytes:
        """The text of token positions `start` … `end` on the way to (and in) `branch`."""
        size, per_word = self.trace.block_size, self._settings.tokens_per_word
        parts: list[bytes] = []
        for index in range(start // size, -(-end // size)):
            while index < branch.first and branch.parent is not None:
                branch = branch.parent
            zero = floor(index * size / per_word)
            words = floor((index + 1) * size / per_word) - zero
            text = self._block(branch.ids[index - branch.first], words)
            low = floor(max(start, index * size) / per_word) - zero
            high = floor(min(end, (index + 1) * size) / per_word) - zero
            parts.append(text[low * 4 : high * 4])
        return b"".join(parts)

    def _block(self, block: int, words: int) -> bytes:
        owner, position = self._warm.get(block, (self._owner, block))
        return self._pool.block_text(owner, position, words)
