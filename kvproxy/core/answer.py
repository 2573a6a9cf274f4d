"""Watching an answer go by: its first token and, at its end, the engine's usage figures.

Chunks are relayed untouched; only the last bytes are kept, and looked at once.
"""

import re
from collections import deque
from collections.abc import Sequence

from kvproxy.core.types import Usage

# A usage object is some 200 bytes; what vLLM writes behind it is shorter than this.
_TAIL_BYTES = 8192
# What may come before a first token: white space and whole comment lines.
_QUIET = re.compile(rb"(?:[ \t\r\n]+|:[^\r\n]*[\r\n])*")
_USAGE = re.compile(rb'"usage"\s*:\s*\{')
_NUMBER = {
    name: re.compile(rb'"(?:' + names + rb')"\s*:\s*(\d+)')
    for name, names in {
        "prompt": rb"prompt_tokens|input_tokens",
        "completion": rb"completion_tokens|output_tokens",
        "cached": rb"cached_tokens",
        "read": rb"cache_read_input_tokens",
        "created": rb"cache_creation_input_tokens",
    }.items()
}
_EVENT = re.compile(rb"(?:\A|\n)event: ?([\w.]+)\r?\n")
_EVENT_BYTES = 64


class AnswerWatch:
    """`preamble` are the events that a stream of this dialect sends before anything is computed."""

    def __init__(self, preamble: Sequence[bytes] = ()) -> None:
        self._tail: deque[bytes] = deque()
        self._tail_bytes = 0
        self._preamble = preamble
        self._cut = b""
        self.started = False
        self._in_comment = False

    def feed(self, chunk: bytes) -> bool:
        """Whether the first token arrived with this chunk; keep-alive comments carry none."""
        self._tail.append(chunk)
        self._tail_bytes += len(chunk)
        while self._tail_bytes - len(self._tail[0]) >= _TAIL_BYTES:
            self._tail_bytes -= len(self._tail.popleft())
        if self.started:
            return False
        self.started = not self._opens(chunk) if self._preamble else self._starts(chunk)
        return self.started

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

        Anthropic's input_tokens are those that were neither read from the cache nor put into it;
        only the last usage of a stream is split so, its first holds them all.
        """
        tail = b"".join(self._tail)
        at = max((match.end() for match in _USAGE.finditer(tail)), default=0)
        if not at:
            return None
        found = {name: _number(pattern, tail, at) for name, pattern in _NUMBER.items()}
        prompt, completion = found["prompt"], found["completion"] or 0
        if prompt is None:
            return None
        if found["read"] is None and found["created"] is None:
            return Usage(prompt, completion, found["cached"])
        read, created = found["read"] or 0, found["created"] or 0
        return Usage(prompt + read + created, completion, read)


def _number(pattern: re.Pattern[bytes], text: bytes, at: int) -> int | None:
    match = pattern.search(text, at)
    return int(match[1]) if match else None
