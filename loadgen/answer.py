"""A streamed answer as it arrives: when text came, how much of it, and what the end said.

A stream repeats itself: around their text, events are equal byte for byte. So the first event
with text is parsed, and one that begins and ends like it carries text in the same place.
"""

from dataclasses import dataclass, field

from msgspec.structs import replace

from loadgen.sse import DONE, EventStream, StreamEvent, Usage, parse_event

ERROR_BODY_BYTES_MAX = 4096
_TEXT_FIELDS = (
    b'"content":"', b'"reasoning_content":"', b'"reasoning":"', b'"text":"', b'"thinking":"',
    b'"delta":"',
)  # fmt: skip
# Where it follows at once, this field is empty and another may have the text.
_QUOTE = ord('"')


@dataclass(slots=True)
class Answer:
    """`times` are those of the chunks with text, `sizes` their bytes of text; `head` is the
    beginning of the body, for answers that are no stream."""

    stream: EventStream = field(default_factory=EventStream)
    times: list[float] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    usage: Usage | None = None
    done: bool = False
    error: str = ""
    head: bytes = b""
    _before: bytes = b""
    _after: bytes = b""

    def feed(self, now: float, data: bytes) -> None:
        """Raises StreamError when this is no stream of such events."""
        if len(self.head) < ERROR_BODY_BYTES_MAX:
            self.head += data[:ERROR_BODY_BYTES_MAX]
        for payload in self.stream.feed(data):
            size = len(payload) - len(self._before) - len(self._after)
            if (
                size > 0
                and self._before
                and payload.startswith(self._before)
                and payload[len(self._before)] != _QUOTE
                and payload.endswith(self._after)
            ):
                self.times.append(now)
                self.sizes.append(size)
            else:
                self._read(now, payload)

    def _read(self, now: float, payload: bytes) -> None:
        if payload == DONE:
            self.done = True
            return
        event = parse_event(payload)
        self.error = self.error or event.failure()
        self.done = self.done or event.last
        if event.usage is not None:
            self.usage = _joined(self.usage, event.usage)
        size = event.size()
        if size:
            self.times.append(now)
            self.sizes.append(size)
            self._before, self._after = _frame(event, payload)


def _joined(before: Usage | None, usage: Usage) -> Usage:
    """The last usage of a stream; where it speaks of the answer alone, with what was said of the
    prompt at the beginning, as some servers of /v1/messages do."""
    if before is None or usage.prompt is not None:
        return usage
    return replace(before, completion_tokens=usage.completion)


def _frame(event: StreamEvent, payload: bytes) -> tuple[bytes, bytes]:
    """What stands before and after the text of an event with nothing else to say; otherwise
    nothing, so that the next is parsed as well."""
    found = [name for name in _TEXT_FIELDS if name in payload]
    if len(found) != 1 or payload.count(found[0]) != 1 or event.usage or event.failure():
        return b"", b""
    start = payload.index(found[0]) + len(found[0])
    end = start
    while (end := payload.index(b'"', end)) and _escaped(payload, end):
        end += 1
    return payload[:start], payload[end:]


def _escaped(payload: bytes, at: int) -> bool:
    """Whether an odd number of backslashes stands in front of `at`."""
    run = payload[:at]
    return (len(run) - len(run.rstrip(b"\\"))) % 2 == 1
