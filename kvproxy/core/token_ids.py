"""The token ids of a prompt, told by the engine in its own answer and taken out of it again.

vLLM tells them where a request says `return_token_ids`: a list at the top of a whole answer or of a
stream's first event, and one of generated tokens in each choice. Not asked for, the same members
are null or are not there; so null is what the client gets.
"""

import re
from array import array
from collections.abc import Callable, Mapping
from contextlib import suppress

from kvproxy.core.spans import Span

PATHS = ("/v1/chat/completions", "/v1/completions")
FIELD = "return_token_ids"
_MEMBER = b'"return_token_ids":true'
# With one of these an answer has the lists in other places, or is large without them.
_UNUSUAL = frozenset(
    {FIELD, "kv_transfer_params", "logprobs", "top_logprobs", "prompt_logprobs", "use_beam_search"}
)
# A member follows a brace or a comma; inside a text its quotes would be escaped.
_LIST = re.compile(rb'([{,]\s?"(prompt_token_ids|token_ids)":\s?)\[([\d,\s]*)\]')
# No token takes more than some 8 bytes: a longer event is none that was asked for.
_HELD_BYTES_MAX = 64 * 2**20


def can_ask(path: str, members: Mapping[str, Span]) -> bool:
    """Whether the answer to such a request can be put back as if it had not been asked for."""
    if path not in PATHS or not members or not _UNUSUAL.isdisjoint(members):
        return False
    if "n" in members and members["n"].raw not in (b"1", b"null"):
        return False
    return "prompt" not in members or members["prompt"].raw.startswith(b'"')


def asking(body: bytes) -> bytes:
    """`body`, a JSON object with members, asks for them too."""
    brace = body.index(b"{") + 1
    return b"".join((body[:brace], _MEMBER, b",", body[brace:]))


class TokenIds:
    """One answer. Of a stream feed() gives back whole lines, at once; what is no stream is kept.
    The rest() comes at the end. `prompt` are the ids. `names_field`: an error may be because of it.
    """

    def __init__(self) -> None:
        self._held: list[bytes] = []
        self._held_bytes = 0
        self.prompt: array[int] | None = None
        self.names_field = False

    def feed(self, chunk: bytes) -> bytes:
        end = chunk.rfind(b"\n") + 1
        if not end:
            self.keep(chunk)
            return self.rest() if self._held_bytes > _HELD_BYTES_MAX else b""
        self.keep(chunk[:end])
        lines = self.rest()
        self.keep(chunk[end:])
        return lines

    def lines_to(self, pass_on: Callable[[bytes], object]) -> Callable[[bytes], None]:
        """What feeds an answer and passes on what may go."""

        def listen(chunk: bytes) -> None:
            lines = self.feed(chunk)
            if lines:
                pass_on(lines)

        return listen

    def keep(self, part: bytes) -> None:
        if part:
            self._held.append(part)
            self._held_bytes += len(part)

    def rest(self) -> bytes:
        text = self._held[0] if len(self._held) == 1 else b"".join(self._held)
        self._held.clear()
        self._held_bytes = 0
        self.names_field |= FIELD.encode() in text
        return _LIST.sub(self._take, text) if b'token_ids":' in text else text

    def _take(self, found: re.Match[bytes]) -> bytes:
        if self.prompt is None and found[2] == b"prompt_token_ids":
            with suppress(ValueError, OverflowError):
                self.prompt = array("I", map(int, found[3].split(b",")))
        return found[1] + b"null"
