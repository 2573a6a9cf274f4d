"""What the prompts of a trace have in common in every play of it: branches, messages, warm blocks.

Working it out takes tens of milliseconds, rendering a turn takes microseconds; so it is done once
a trace and before any clock runs.
"""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field

from loadgen.layout import Layout, Overhead, Shape
from loadgen.prefix_tree import PrefixTree
from loadgen.text import owner_id
from loadgen.traces.model import Trace, Turn
from loadgen.warm import Warm


@dataclass(frozen=True, slots=True)
class ContentSettings:
    """How prompts are made. `tokens_per_word` is measured for a real tokeniser (≥ 1)."""

    seed: int = 1
    warm: Warm = field(default_factory=Warm)
    overhead: Overhead = field(default_factory=Overhead)
    tokens_per_word: float = 1.0


class Plan:
    """The requests of a trace in one row: lane 0 is the conversation itself, lane k its k-th
    sub-agent, and `request(lane, turn)` the number of a turn. `warm` maps the block ids that all
    conversations share to (owner, position).

    Traces with common block ids have one plan together, so that they share whole messages; the
    lanes of each then begin at `lane_of(trace)`.
    """

    def __init__(self, trace: Trace, settings: ContentSettings, *others: Trace) -> None:
        self.trace = trace
        self.settings = settings
        lanes: list[tuple[Trace, tuple[Turn, ...], int]] = []
        self._lane_of: dict[str, int] = {}
        self._kinds: list[str] = []
        for each in (trace, *others):
            assert each.block_size == trace.block_size, "one plan, one size of blocks"
            self._lane_of[each.id] = len(lanes)
            lanes.append((each, each.turns, each.fixed_tokens))
            lanes += [(each, agent.turns, agent.fixed_tokens) for agent in each.sub_agents]
            self._kinds += ["main", *("subagent" for _ in each.sub_agents)]
        shares = [
            settings.warm.blocks(fixed, trace.block_size, sub_agent=kind == "subagent")
            for (_, _, fixed), kind in zip(lanes, self._kinds, strict=True)
        ]
        self._first = [0]
        turns: list[Turn] = []
        shapes: list[Shape] = []
        for (_, lane_turns, fixed), shared in zip(lanes, shares, strict=True):
            turns += lane_turns
            # The system message is what is shared; what is one's own follows in the next message.
            system = shared * trace.block_size or fixed
            shapes += [Shape(turn.output_tokens, turn.tool_result, system) for turn in lane_turns]
            self._first.append(len(turns))
        over = settings.overhead
        prompts = [(turn.input_tokens, turn.blocks) for turn in turns]
        self.tree = PrefixTree(prompts, trace.block_size, over.generation)
        self.layout = Layout(self.tree, shapes, over)
        self.warm = self._warm_blocks(turns, shares)
        self._warm_until = self._leading_warm()

    @property
    def shared(self) -> bool:
        return len(self._lane_of) > 1

    def lane_of(self, trace: Trace) -> int:
        return self._lane_of[trace.id]

    def request(self, lane: int, turn: int) -> int:
        return self._first[lane] + turn

    def following(self, request: int) -> int:
        """The next request of the same lane; the last one is followed by itself."""
        return request if request + 1 in self._first else request + 1

    def planned_tokens(self, request: int) -> int:
        """Prompt tokens of a request as the template overhead predicts them."""
        over = self.settings.overhead
        return (self.layout.places[request].tokens or over.base + over.user + 1) + over.generation

    def warm_tokens(self, request: int) -> tuple[str, int]:
        """How many leading tokens of this prompt every conversation shares, and with whom:
        conversations share one warm prefix, sub-agents another."""
        kind = self._kinds[bisect_right(self._first, request) - 1]
        branch = self.layout.places[request].branch
        path = branch.path()
        opening = self.layout.messages[path[1].number] if len(path) > 1 else []
        whole = opening[0].end if opening else 0
        return kind, min(self._warm_until[branch.number] * self.trace.block_size, whole)

    def _leading_warm(self) -> list[int]:
        """For every branch the shared blocks at the head of prompts that pass through it."""
        until = [0] * len(self.tree.branches)
        for branch in self.tree.branches:
            above = until[branch.parent.number] if branch.parent else 0
            own = 0
            if above == branch.first:
                while own < len(branch.ids) and branch.ids[own] in self.warm:
                    own += 1
            until[branch.number] = above + own
        return until

    def _warm_blocks(self, turns: list[Turn], shares: list[int]) -> dict[int, tuple[int, int]]:
        """Block id → (owner, position) for the blocks that all conversations share.

        Only the first to claim a position gets it: two sub-agents of a trace whose first
        blocks differ must not become equal.
        """
        warm: dict[int, tuple[int, int]] = {}
        claimed: set[tuple[int, int]] = set()
        for lane, share in enumerate(shares):
            owner = owner_id(self.settings.seed, "warm", self._kinds[lane])
            if self._first[lane] == self._first[lane + 1]:
                continue
            for position, block in enumerate(turns[self._first[lane]].blocks.prefix(share)):
                if block not in warm and (owner, position) not in claimed:
                    claimed.add((owner, position))
                    warm[block] = (owner, position)
        return warm


class Plans:
    """The plans of a set of traces, each made once, when it is first asked for."""

    def __init__(self, settings: ContentSettings, traces: Sequence[Trace] = ()) -> None:
        self.settings = settings
        self._made: dict[str, Plan] = {}
        self._common: dict[int, list[Trace]] = {}
        for trace in sorted(traces, key=lambda trace: (trace.start_s, trace.id)):
            if trace.shared_ids:
                self._common.setdefault(trace.block_size, []).append(trace)

    def of(self, trace: Trace) -> Plan:
        if trace.id not in self._made:
            together = self._common.get(trace.block_size, []) if trace.shared_ids else [trace]
            first, *others = together or [trace]
            plan = Plan(first, self.settings, *others)
            self._made |= {each.id: plan for each in (first, *others)}
        return self._made[trace.id]
