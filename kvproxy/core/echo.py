"""What a replica generated, taken from its answer as it passes by: clients send it back next turn.

What they send back means the same and is often spelled otherwise, and then the blocks of the answer
are of no use to the prompt that repeats it. Chunks are kept as they are, from the first sign of a
tool call on, and looked at once the answer has ended.
"""

from collections.abc import Sequence

# An answer of some thousand tokens, streamed a token an event.
_ANSWER_BYTES_MAX = 2 * 2**20
_LINE_BYTES_MAX = 64 * 2**10
_LINE_END = ord("\n")


class TapBudget:
    """Bytes that all answers under way may keep together."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.used = 0


class Tap:
    """`signs` are what a chunk of a stream has in it when there is something to keep; without any,
    everything is kept. Ends with taken() or dropped()."""

    def __init__(self, signs: Sequence[bytes], budget: TapBudget) -> None:
        self._signs = signs
        self._budget = budget
        self._parts: list[bytes] = []
        self._before = b""
        self._size = 0
        self._full = False

    def feed(self, chunk: bytes) -> None:
        if self._parts or not self._signs:
            self._keep(chunk)
            return
        before = self._before
        # Engines write whole lines; one that was cut on its way is looked at as a whole.
        if before and before[-1] != _LINE_END and len(before) < _LINE_BYTES_MAX:
            before += chunk
        else:
            before = chunk
        self._before = before
        for sign in self._signs:
            if sign in before:
                self._keep(before)
                self._before = b""

    def taken(self) -> bytes:
        """What was kept; nothing of an answer that was too long."""
        parts = [] if self._full else self._parts
        self.dropped()
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def dropped(self) -> None:
        if self._size:
            self._budget.used -= self._size
            self._parts, self._size = [], 0
        self._before = b""

    def _keep(self, chunk: bytes) -> None:
        size, used = self._size + len(chunk), self._budget.used + len(chunk)
        if self._full or size > _ANSWER_BYTES_MAX or used > self._budget.max_bytes:
            self._full = True
        else:
            self._parts.append(chunk)
            self._size, self._budget.used = size, used
