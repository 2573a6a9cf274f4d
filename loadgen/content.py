"""Block-exact chat prompts: equal block ids of a trace become equal text.

Messages are rendered to JSON once and joined for each body; the history is never serialised
again. Equal (seed, trace, play, block) always give equal bytes; another play of the same trace
shares only the warm prefix.
"""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from math import floor

from loadgen.layout import Message
from loadgen.plan import Plan
from loadgen.prefix_tree import Branch
from loadgen.text import WordPool, owner_id

_TOOL = "run"


@dataclass(frozen=True, slots=True)
class Prompt:
    """The messages of one request as JSON fragments, and its length in tokens as planned."""

    fragments: list[bytes]
    tokens: int


class Conversation:
    """One play of one trace: the prompts of a plan, in words of this play's own."""

    def __init__(self, plan: Plan, pool: WordPool, play: int = 0) -> None:
        self.plan = plan
        self.trace = plan.trace
        self.play = play
        self._pool = pool
        # Equal ids of scope "global" are equal text in all traces.
        name = "" if plan.trace.shared_ids else plan.trace.id
        self._owner = owner_id(plan.settings.seed, name, play)
        # (branch, index of the message in it) -> JSON
        self._rendered: dict[tuple[int, int], bytes] = {}

    async def prepare(self, request: int) -> None:
        """Render what a prompt adds, a message at a time, so that others get their turns."""
        for branch, index in self._messages(request):
            if (branch.number, index) not in self._rendered:
                self._fragment(branch, index)
                await asyncio.sleep(0)

    def prompt(self, request: int) -> Prompt:
        fragments = [self._fragment(branch, index) for branch, index in self._messages(request)]
        if not fragments:  # a recorded prompt of no tokens still has to ask something
            fragments = [b'{"role":"user","content":" the"}']
        return Prompt(fragments, self.plan.planned_tokens(request))

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
        size, per_word = self.trace.block_size, self.plan.settings.tokens_per_word
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
        owner, position = self.plan.warm.get(block, (self._owner, block))
        return self._pool.block_text(owner, position, words)
