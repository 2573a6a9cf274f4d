"""Watching an answer go by: its first token and, at its end, the engine's usage figures.

Chunks are relayed untouched; only the last bytes are kept, and looked at once.
"""

import re
from collections import deque

from kvproxy.core.types import Usage

# A usage object is some 200 bytes; what vLLM writes behind it is shorter than this.
_TAIL_BYTES = 8192
# What may come before a first token: white space and whole comment lines.
_QUIET = re.compile(rb"(?:[ \t\r\n]+|:[^\r\n]*[\r\n])*")
_USAGE = re.compile(rb'"usage"\s*:\s*\{')
_NUMBER = {
    name: re.compile(rb'"' + name + rb'"\s*:\s*(\d+)')
    for name in (b"prompt_tokens", b"completion_tokens", b"cached_tokens")
}


class AnswerWatch:
    def __init__(self) -> None:
        self._tail: deque[bytes] = deque()
        self._tail_bytes = 0
        self.started = False
        self._in_comment = False

    def feed(self, chunk: bytes) -> bool:
        """Whether the first token arrived with this chunk; keep-alive comments carry none."""
        self._tail.append(chunk)
        self._tail_bytes += len(chunk)
        while self._tail_bytes - len(self._tail[0]) >= _TAIL_BYTES:
            self._tail_bytes -= len(self._tail.popleft())
        if not self.started:
            self.started = self._starts(chunk)
            return self.started
        return False

    def _starts(self, chunk: bytes) -> bool:
        """A comment may be cut anywhere: inside one everything up to the line's end is quiet."""
        text = b":" + chunk if self._in_comment else chunk
        quiet = _QUIET.match(text)
        loud = text[quiet.end() :] if quiet else text
        self._in_comment = loud.startswith(b":")
        return bool(loud) and not self._in_comment

    def usage(self) -> Usage | None:
        """What the engine reported. A quote inside generated text is escaped, so the last
        member `"usage"` that is an object is the engine's own."""
        tail = b"".join(self._tail)
        at = max((match.end() for match in _USAGE.finditer(tail)), default=0)
        if not at:
            return None
        found = {name: pattern.search(tail, at) for name, pattern in _NUMBER.items()}
        prompt, completion, cached = (int(match[1]) if match else None for match in found.values())
        if prompt is None:
            return None
        return Usage(prompt, completion or 0, cached)
