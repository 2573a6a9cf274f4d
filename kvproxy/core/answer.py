"""Watching an answer go by: its first token and, at its end, the engine's usage figures.

Chunks are relayed untouched and pile up for a while: only what begins an answer is looked at as it
comes, the rest together, and only the last bytes stay.
"""

import re
from collections import deque
from collections.abc import Sequence

from kvproxy.core.echo import Tap
from kvproxy.core.types import Usage

# A usage object is some 200 bytes; what vLLM writes behind it is shorter than this.
_TAIL_BYTES = 8192
# What may come before a first token: white space and whole comment lines.
_QUIET = re.compile(rb"(?:[ \t\r\n]+|:[^\r\n]*[\r\n])*")
_USAGE = re.compile(rb'"usage"\s*:\s*\{')
_ROLES = {
    b"prompt_tokens": "prompt",
    b"input_tokens": "prompt",
    b"completion_tokens": "completion",
    b"output_tokens": "completion",
    b"cached_tokens": "cached",
    b"cache_read_input_tokens": "read",
    b"cache_creation_input_tokens": "created",
    b"created_cache_tokens": "stored",
    b"cache_write_tokens": "stored",
}
# More digits than tokens were ever counted in are nonsense, such as what an unsigned -1 shows, and
# would not fit where counts are kept.
_FIGURE = re.compile(rb'"(' + b"|".join(_ROLES) + rb')"\s*:\s*(\d{1,9})(?!\d)')
_EVENT = re.compile(rb"(?:\A|\n)event: ?([\w.]+)\r?\n")
_EVENT_BYTES = 64
_OPENING_BYTES = 4096
# So many chunks pile up at most, none of them larger: whoever adds to the pile settles it then.
PILED_MAX = 32
PILED_BYTES = 4096


class AnswerWatch:
    """`preamble` are the events that a stream of this dialect sends before anything is computed;
    `tap` keeps what the answer generated. Once it has `started`, chunks may be put on the `pile`
    instead of being fed."""

    def __init__(self, preamble: Sequence[bytes] = (), tap: Tap | None = None) -> None:
        self._tap = tap
        self.pile: list[bytes] = []
        self._tail: deque[bytes] = deque()
        self._tail_bytes = 0
        self._preamble = preamble
        self._cut = b""
        self.opening = b""
        self.started = False
        self._in_comment = False

    def feed(self, chunk: bytes) -> bool:
        """Whether the first token arrived with this chunk; keep-alive comments carry none."""
        self.pile.append(chunk)
        if len(self.pile) >= PILED_MAX or len(chunk) > PILED_BYTES:
            self.settle()
        if self.started:
            return False
        if not self.opening:
            self.opening = chunk[:_OPENING_BYTES]
        self.started = not self._opens(chunk) if self._preamble else self._starts(chunk)
        return self.started

    def settle(self) -> None:
        """The tap takes its part of the pile, and of the rest only the end stays."""
        pile, tail = self.pile, self._tail
        if not pile:
            return
        text = pile[0] if len(pile) == 1 else b"".join(pile)
        pile.clear()
        tail.append(text)
        self._tail_bytes += len(text)
        while self._tail_bytes - len(tail[0]) >= _TAIL_BYTES:
            self._tail_bytes -= len(tail.popleft())
        if self._tap is not None:
            self._tap.feed(text)

    def taken(self) -> bytes:
        """What the tap kept; it keeps no more."""
        if self._tap is None:
            return b""
        self.settle()
        tap, self._tap = self._tap, None
        return tap.taken()

    def end(self) -> bytes:
        """The last bytes that went by, of which there may be none."""
        self.settle()
        return b"".join(self._tail)

    def _starts(self, chunk: bytes) -> bool:
        """A comment may be cut anywhere: inside one everything up to the line's end is quiet."""
        text = b":" + chunk if self._in_comment else chunk
        quiet = _QUIET.match(text)
        loud = text[quiet.end() :] if quiet else text
        self._in_comment = loud.startswith(b":")
        return bool(loud) and not self._in_comment

    def _opens(self, chunk: bytes) -> bool:
        """Whether nothing but comments and the preamble of an event stream has come so far."""
        if not self._cut and chunk[:1] not in (b"e", b":"):
            return False
        seen = self._cut + chunk
        self._cut = seen[-_EVENT_BYTES:]
        return all(event in self._preamble for event in _EVENT.findall(seen))

    def usage(self) -> Usage | None:
        """What the engine reported, in any dialect. A quote inside generated text is escaped, so
        the last member `"usage"` that is an object is the engine's own.

        Anthropic's input_tokens are those that were neither read from the cache nor put into it.
        In a stream of vLLM only the last usage is split so: its first holds them all, and is what
        remains where an old engine's last says nothing of the prompt.
        """
        self.settle()
        found = _figures(b"".join(self._tail))
        prompt, completion = found.get("prompt"), found.get("completion", 0)
        if prompt is None:
            prompt = _figures(self.opening).get("prompt") if found else None
            return Usage(prompt, completion, None) if prompt is not None else None
        if "read" not in found and "created" not in found:
            return Usage(prompt, completion, found.get("cached"), found.get("stored"))
        read, created = found.get("read", 0), found.get("created", 0)
        return Usage(prompt + read + created, completion, read, found.get("created"))


def _figures(text: bytes) -> dict[str, int]:
    """Of the last usage object, by role; empty without one."""
    at = _usage_start(text)
    found: dict[str, int] = {}
    for name, figure in _FIGURE.findall(text, at) if at >= 0 else ():
        found.setdefault(_ROLES[name], int(figure))
    return found


def _usage_start(tail: bytes) -> int:
    """Where the last usage object begins; -1 without one."""
    at = tail.rfind(b'"usage"')
    while at >= 0 and not _USAGE.match(tail, at):
        at = tail.rfind(b'"usage"', 0, at)
    return at
