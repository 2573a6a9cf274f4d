"""Block-exact chat prompts: equal block ids of a trace become equal text.

Messages are rendered to JSON once and joined for each body; the history is never serialised
again. Equal (seed, trace, play, block) always give equal bytes; another play of the same trace
shares only the warm prefix.
"""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from math import floor

from loadgen.dialects import DIALECTS, TOOLS, Dialect, Said
from loadgen.layout import Message
from loadgen.plan import Plan
from loadgen.prefix_tree import Branch
from loadgen.text import WordPool, owner_id


@dataclass(frozen=True, slots=True)
class Prompt:
    """The messages and tools of one request as fragments of a dialect, and its length in tokens
    as planned; `opens` when the first fragment is the system message."""

    fragments: list[bytes]
    tokens: int
    tools: tuple[bytes, ...] = ()
    opens: bool = False


class Conversation:
    """One play of one trace: the prompts of a plan, in words of this play's own."""

    def __init__(
        self, plan: Plan, pool: WordPool, play: int = 0, dialect: Dialect = DIALECTS["chat"]
    ) -> None:
        self.plan = plan
        self.trace = plan.trace
        self.play = play
        self._pool = pool
        self._dialect = dialect
        # Equal ids of scope "global" are equal text in all traces.
        name = "" if plan.trace.shared_ids else plan.trace.id
        self._owner = owner_id(plan.settings.seed, name, play)
        # (branch, index of the message in it) -> JSON
        self._rendered: dict[tuple[int, int], bytes] = {}
        # branch that opens a prompt -> the tools it declares
        self._tools: dict[int, tuple[bytes, ...]] = {}

    async def prepare(self, request: int) -> None:
        """Render what a prompt adds, a message at a time, so that others get their turns."""
        for branch, index in self._messages(request):
            if (branch.number, index) not in self._rendered:
                self._fragment(branch, index)
                await asyncio.sleep(0)

    def prompt(self, request: int) -> Prompt:
        messages = list(self._messages(request))
        tokens = self.plan.planned_tokens(request)
        if not messages:  # a recorded prompt of no tokens still has to ask something
            return Prompt([self._dialect.message(Said("user", b" the"))], tokens)
        fragments = [self._fragment(branch, index) for branch, index in messages]
        branch, index = messages[0]
        opens = self.plan.layout.messages[branch.number][index].role == "system"
        return Prompt(fragments, tokens, self._tools.get(branch.number, ()), opens)

    def _messages(self, request: int) -> Iterator[tuple[Branch, int]]:
        """The messages of a prompt in order, each as its branch and its index there."""
        layout = self.plan.layout
        place = layout.places[request]
        for branch in place.branch.path():
            last = branch is place.branch
            count = place.messages if last else len(layout.messages[branch.number])
            yield from ((branch, index) for index in range(count))

    def _fragment(self, branch: Branch, index: int) -> bytes:
        done = self._rendered.get((branch.number, index))
        if done is None:
            message = self.plan.layout.messages[branch.number][index]
            done = self._rendered[branch.number, index] = self._render(branch, message)
        return done

    def _render(self, branch: Branch, message: Message) -> bytes:
        end = message.end
        if message.tools >= 0:
            self._tools[branch.number] = self._declare(branch, message.tools, end)
            end = message.tools
        text = self._words(branch, message.text, end)
        call = b""
        if message.call >= 0:
            call = self._pool.block_text(self._owner, -1 - message.call, 3).replace(b" ", b"")
        return self._dialect.message(Said(message.role, text, call))

    def _declare(self, branch: Branch, start: int, end: int) -> tuple[bytes, ...]:
        """The tools, sharing the words of token positions `start` … `end` among them."""
        cuts = [start + (end - start) * n // len(TOOLS) for n in range(len(TOOLS) + 1)]
        return tuple(
            self._dialect.tool(name, self._words(branch, *span))
            for name, span in zip(TOOLS, pairwise(cuts), strict=True)
        )

    def _words(self, branch: Branch, start: int, end: int) -> bytes:
        """The text of token positions `start` … `end` on the way to (and in) `branch`."""
        size, per_word = self.trace.block_size, self.plan.settings.tokens_per_word
        path = branch.path()
        at = len(path) - 1
        while at and start // size < path[at].first:
            at -= 1
        parts: list[bytes] = []
        for index in range(start // size, -(-end // size)):
            while index >= path[at].stop:
                at += 1
            zero = floor(index * size / per_word)
            words = floor((index + 1) * size / per_word) - zero
            text = self._block(path[at].ids[index - path[at].first], words)
            low = floor(max(start, index * size) / per_word) - zero
            high = floor(min(end, (index + 1) * size) / per_word) - zero
            parts.append(text[low * 4 : high * 4])
        return b"".join(parts)

    def _block(self, block: int, words: int) -> bytes:
        owner, position = self.plan.warm.get(block, (self._owner, block))
        return self._pool.block_text(owner, position, words)
