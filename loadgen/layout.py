"""Where messages begin and end, so that prompts share exactly the prefixes a trace says.

A message ends wherever some prompt ends and wherever prompts part, so a rewind re-sends the kept
messages unchanged and continues with new ones. Between those points a turn looks like an agent's:
the assistant's answer of recorded length, then the tool result or the user's text.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from loadgen.prefix_tree import Branch, PrefixTree

# A first prompt longer than this continues an older session: what follows its system text is a
# question and rounds of tool calls, not one message of 100k tokens.
HISTORY_TOKENS_MIN = 8192
ASKED_TOKENS = 512
ROUND_TOKENS = 2048
CALLED_TOKENS = 256
# Of the tools and system text of recorded agents this much was tools.
TOOLS_SHARE = 0.8
TOOLS_TOKENS_MIN = 512


@dataclass(frozen=True, slots=True)
class Overhead:
    """Tokens that a chat template adds: `system` with the opening system message, `base` to a
    prompt that opens without one, `generation` at the end of each prompt (and again in front of
    the assistant message that follows), `call` to an assistant message that calls a tool, `tools`
    to a prompt that declares tools (0: they are not declared), the others per message."""

    base: int = 0
    generation: int = 0
    system: int = 0
    user: int = 0
    assistant: int = 0
    tool: int = 0
    call: int = 0
    tools: int = 0

    @property
    def closing(self) -> int:
        """The fewest tokens that a user or tool message takes."""
        return 1 + max(self.user, self.tool)


@dataclass(frozen=True, slots=True)
class Shape:
    """What the layout needs of a turn; `system_tokens` open the prompt, as its tools and its
    system message."""

    output_tokens: int
    tool_result: bool
    system_tokens: int


@dataclass(frozen=True, slots=True)
class Message:
    """Tokens `start` … `end` of a prompt, template overhead included.

    The words are those of token positions `text` … `end`. `call` is the position of the
    assistant message whose tool call this one makes or answers, -1 for none. Of a system
    message's words those from `tools` on, where it is not -1, describe tools.
    """

    role: str
    start: int
    text: int
    end: int
    call: int = -1
    tools: int = -1


@dataclass(frozen=True, slots=True)
class Place:
    """The end of one prompt: all of its branch's ancestors, then `messages` of its branch."""

    branch: Branch
    messages: int
    tokens: int


class Layout:
    """Messages of every branch (by branch number) and the place of every request."""

    def __init__(self, tree: PrefixTree, shapes: Sequence[Shape], overhead: Overhead) -> None:
        self._tree = tree
        self._shapes = shapes
        self._overhead = overhead
        self.messages: list[list[Message]] = [[] for _ in tree.branches]
        # The position where a branch really ends: a message too small to exist is left to the
        # branches that follow, which then repeat its text.
        self.stop = [0] * len(tree.branches)
        self._opener: list[int | None] = [None] * len(tree.branches)
        places = dict(place for branch in tree.branches for place in self._fill(branch))
        self.places = [places[request] for request in range(len(shapes))]

    def _fill(self, branch: Branch) -> Iterator[tuple[int, Place]]:
        parent = branch.parent
        at = self.stop[parent.number] if parent else 0
        opener = self._opener[parent.number] if parent else None
        messages = self.messages[branch.number]
        cuts = set(branch.ends)
        if branch.children and branch.ids:
            cuts.add(branch.stop * self._tree.block_size)
        for cut in sorted(cuts):
            ending = branch.ends.get(cut, [])
            if cut - at >= self._overhead.closing or (at == 0 and cut > 0):
                after = ending[0] if ending else self._next(branch, opener)
                messages.extend(self._segment(at, cut, opener, self._shapes[after]))
                at, opener = messages[-1].end, None
            if ending and opener is None:
                opener = ending[0]
            for request in ending:
                yield request, Place(branch, len(messages), at)
        self.stop[branch.number] = at
        self._opener[branch.number] = opener

    def _next(self, branch: Branch, opener: int | None) -> int:
        """The request that first continues through `branch` after `opener`."""
        later = (request for request in branch.requests if opener is None or request > opener)
        return next(later, branch.requests[0])

    def _segment(self, at: int, cut: int, opener: int | None, shape: Shape) -> list[Message]:
        over = self._overhead
        if at == 0:
            return self._opening(cut, shape)
        if opener is not None:
            answer = max(self._shapes[opener].output_tokens, 1 + over.assistant)
            called = shape.tool_result
            lead = over.assistant + (over.call if called else 0)
            middle = at + min(max(answer, 1 + lead), cut - at - over.closing)
            if middle - at > lead:
                call = at if called else -1
                answered = Message("assistant", at, at + lead, middle, call)
                return [answered, self._closing(middle, cut, call)]
        return [self._closing(at, cut, -1)]

    def _opening(self, cut: int, shape: Shape) -> list[Message]:
        over = self._overhead
        system = min(shape.system_tokens, cut - over.closing)
        if system <= over.system:
            lead = over.base + over.user
            return [Message("user", 0, lead, max(cut, lead + 1))]
        messages = [self._system(system)]
        at = system
        if cut - at > HISTORY_TOKENS_MIN:
            messages.append(self._closing(at, at + ASKED_TOKENS, -1))
            at += ASKED_TOKENS
            while cut - at > 2 * ROUND_TOKENS:
                middle = at + CALLED_TOKENS
                lead = over.assistant + over.call
                messages.append(Message("assistant", at, at + lead, middle, at))
                messages.append(self._closing(middle, at + ROUND_TOKENS, at))
                at += ROUND_TOKENS
        return [*messages, self._closing(at, cut, -1)]

    def _system(self, end: int) -> Message:
        """Four fifths of what opens a prompt are tools, if that is worth declaring them."""
        lead = self._overhead.system + self._overhead.tools
        words = round(TOOLS_SHARE * (end - lead))
        if not self._overhead.tools or words < TOOLS_TOKENS_MIN:
            return Message("system", 0, self._overhead.system, end)
        return Message("system", 0, lead, end, tools=end - words)

    def _closing(self, at: int, cut: int, call: int) -> Message:
        if call >= 0:
            return Message("tool", at, at + self._overhead.tool, cut, call)
        return Message("user", at, at + self._overhead.user, cut)
