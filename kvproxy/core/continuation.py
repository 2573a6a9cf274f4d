"""Going on with a stream that broke off, on another replica: the prompt and what was generated of
the answer are sent there, and what comes behind it is passed on as if nothing had happened.

Only where that means the same: plain text of chat and completions, one choice, and no tools,
grammar, log probabilities, penalties on what was generated, or reasoning. The client is sent whole
events only, so that it never sees half of one.
"""

from collections.abc import Mapping
from typing import Any

import msgspec
import orjson

from kvproxy.core.errors import ProxyError
from kvproxy.core.spans import Span, array_spans, object_spans
from kvproxy.core.turn import Turn, apply
from kvproxy.core.types import Splice

_PLAIN = frozenset(
    (
        *("model", "messages", "prompt", "stream", "stream_options", "max_tokens"),
        *("max_completion_tokens", "temperature", "top_p", "top_k", "min_p", "seed", "stop"),
        *("user", "metadata", "session_id", "request_id", "priority", "cache_salt", "store"),
        *("prompt_cache_key", "safety_identifier", "chat_template_kwargs"),
    )
)
_LIMITS = ("max_tokens", "max_completion_tokens")
# Values that say what leaving the member out says, and members that may say 1.
_ABSENT = frozenset({b"null", b"false", b"[]", b"{}", b"0", b"0.0"})
_ONE = frozenset({"n", "best_of", "repetition_penalty", "length_penalty"})
_EVENT_BYTES_MAX = 2**20
_TEXT_CHARS_MAX = 4 * 2**20
_TIMES_MAX = 2
_DIGITS_MAX = 18
_BREAKS = frozenset({"upstream_unreachable", "upstream_lost", "upstream_broke", "upstream_timeout"})
# What the client is told before the rest.
MARK = b": continued on another replica\n\n"


class _Delta(msgspec.Struct):
    role: str | None = None
    content: str | None = None
    reasoning: Any = None
    reasoning_content: Any = None
    tool_calls: Any = None
    function_call: Any = None
    refusal: Any = None


class _Choice(msgspec.Struct):
    index: int = 0
    delta: _Delta | None = None
    text: str | None = None
    finish_reason: str | None = None


class _Event(msgspec.Struct):
    id: str = ""
    created: int = 0
    choices: list[_Choice] = []
    usage: Any = None
    error: Any = None


_READ = msgspec.json.Decoder(_Event)


def continuation_of(turn: Turn) -> "Continuation | None":
    """None where the answer must not be put together from two."""
    members = turn.members
    if not turn.stream or turn.dialect.name not in ("chat", "completions"):
        return None
    for name, span in members.items():
        is_one = name in _ONE and span.raw in (b"1", b"1.0")
        if name not in _PLAIN and span.raw not in _ABSENT and not is_one:
            return None
    options = members.get("stream_options")
    wanted = _value(options.raw) if options is not None else None
    if wanted and (not isinstance(wanted, dict) or not wanted.keys() <= {"include_usage"}):
        return None
    return Continuation(turn.dialect.name, bool(wanted and wanted.get("include_usage")))


class Continuation:
    """One client's stream. feed() takes what an engine sends and returns what the client gets;
    `times` is how often it went on, `broken` the error event that an engine ended it with."""

    def __init__(self, dialect: str, include_usage: bool) -> None:
        self._chat = dialect == "chat"
        self._include_usage = include_usage
        self._rest = b""
        self._texts: list[str] = []
        self._chars = 0
        self._tokens = 0
        self._id = ""
        self._created = 0
        self._safe = True
        self._finished = False
        self._used = False
        self._done = False
        self._behind = 0
        self._overlap = ""
        self.begun = False
        self.times = 0
        self.broken: ProxyError | None = None

    def feed(self, chunk: bytes) -> bytes:
        data = self._rest + chunk
        end = data.rfind(b"\n\n") + 2
        if end < 2:
            if self._safe and len(data) <= _EVENT_BYTES_MAX and b"\r\n\r\n" not in data:
                self._rest = data
                return b""
            # Events that end otherwise, or larger ones than text makes: nobody follows those.
            self._safe, end = False, len(data)
        self._rest = data[end:]
        self.begun = True
        if not self._safe and not self.times:
            return data[:end]
        parts = [self._event(event + b"\n\n") for event in data[:end].split(b"\n\n")[:-1]]
        return b"".join(parts) if parts else data[:end]

    def end(self) -> bytes:
        """What is left when the engine has ended its answer; raises the error it ended it with."""
        if self.broken is not None:
            raise self.broken
        rest, self._rest = self._rest, b""
        return rest

    def closing(self) -> bytes | None:
        """What a stream still needs whose text was over when it broke off; None: more than that."""
        if not self._safe or not self._finished or (self._include_usage and not self._used):
            return None
        return b"" if self._done else b"data: [DONE]\n\n"

    def resume(self, error: ProxyError, body: bytes) -> bytes | None:
        """What to ask the next replica, given how the last one failed and what the first one was
        asked; None where it is not safe to go on."""
        over = self._finished or self._done or self.times >= _TIMES_MAX
        if over or not self._safe or error.code not in _BREAKS:
            return None
        members = object_spans(body)
        splices = None if members is None else self._splices(members)
        if splices is None:
            return None
        self._rest, self.broken = b"", None
        self.times += 1
        return apply(body, splices)

    def _splices(self, members: Mapping[str, Span]) -> list[Splice] | None:
        text = "".join(self._texts)
        # Templates strip what a message ends with; the engine will generate that again.
        kept = text.rstrip() if self._chat else text
        self._overlap = text[len(kept) :]
        self._behind = self._tokens - self._generated_again()
        splices = []
        for name in _LIMITS:
            limit = members.get(name)
            if limit is not None and limit.raw not in _ABSENT:
                plain = limit.raw.isdigit() and len(limit.raw) < _DIGITS_MAX
                left = int(limit.raw) - self._behind if plain else 0
                if left <= 0:
                    return None
                splices.append(Splice(limit.start, limit.end, b"%d" % left, "continuation"))
        if kept:
            added = self._as_message(members, kept) if self._chat else _as_prompt(members, kept)
            if added is None:
                return None
            splices += added
        return splices

    def _generated_again(self) -> int:
        """How many of the tokens that the client has are in the overlap with all they say."""
        left, tokens = len(self._overlap), 0
        for said in reversed(self._texts):
            left -= len(said)
            if left < 0:
                break
            tokens += 1
        return tokens

    def _as_message(self, members: Mapping[str, Span], text: str) -> list[Splice] | None:
        messages = members.get("messages")
        said = array_spans(messages.raw, messages.start) if messages is not None else None
        if not said or messages is None:
            return None
        last = _value(said[-1].raw)
        if not isinstance(last, dict) or last.get("role") == "assistant":
            return None
        new = b"," + orjson.dumps({"role": "assistant", "content": text})
        how = b'],"continue_final_message":true,"add_generation_prompt":false'
        return [Splice(said[-1].end, messages.end, new + how, "continuation")]

    # What is noted of events, and how those of a later engine are made to fit.

    def _event(self, event: bytes) -> bytes:
        if not event.startswith(b"data:"):
            return event
        data = event[5:].strip()
        if data == b"[DONE]":
            self._done = self.broken is None
            return event if self._done else b""
        try:
            read = _READ.decode(data)
        except msgspec.DecodeError:
            self._safe = False
            return event
        if read.error is not None:
            words = f"A replica ended its answer with an error: {str(read.error)[:300]}"
            self.broken = ProxyError("upstream_broke", words, body=bytes(data))
            return b""
        if self.times:
            return self._fit(read, orjson.loads(data))
        self._id, self._created = read.id, read.created
        self._note(read)
        return event

    def _note(self, read: _Event) -> None:
        self._used |= read.usage is not None
        for choice in read.choices:
            delta = choice.delta or _Delta(content=choice.text)
            special = (delta.reasoning, delta.reasoning_content, delta.function_call, delta.refusal)
            if choice.index or delta.tool_calls or any(special):
                self._safe = False
            if delta.content:
                self._texts.append(delta.content)
                self._chars += len(delta.content)
                self._tokens += 1
                self._safe &= "<think>" not in delta.content and self._chars <= _TEXT_CHARS_MAX
            self._finished |= choice.finish_reason is not None

    def _fit(self, read: _Event, event: dict[str, Any]) -> bytes:
        """An event of a later engine as one of the first: its name, its time, its counts."""
        opening = all(
            choice.delta is not None and choice.delta.role and not choice.delta.content
            for choice in read.choices
        )
        if (
            self._id
            and read.choices
            and opening
            and all(c.finish_reason is None for c in read.choices)
        ):
            return b""
        for choice, given in zip(read.choices, event.get("choices", ()), strict=True):
            self._cut_overlap(choice, given)
        if self._id:
            event["id"], event["created"] = self._id, self._created
        usage = event.get("usage")
        if isinstance(usage, dict):
            for name, more in (
                ("prompt_tokens", -self._behind),
                ("completion_tokens", self._behind),
            ):
                if isinstance(usage.get(name), int):
                    usage[name] = max(0, usage[name] + more)
        self._note(read)
        return b"data: " + orjson.dumps(event) + b"\n\n"

    def _cut_overlap(self, choice: _Choice, given: dict[str, Any]) -> None:
        if not self._overlap or choice.delta is None or not choice.delta.content:
            return
        content, common = choice.delta.content, 0
        while common < min(len(content), len(self._overlap)):
            if content[common] != self._overlap[common]:
                break
            common += 1
        self._overlap = self._overlap[common:] if common == len(content) else ""
        choice.delta.content = given["delta"]["content"] = content[common:]


def _as_prompt(members: Mapping[str, Span], text: str) -> list[Splice] | None:
    prompt = members.get("prompt")
    if prompt is None or not prompt.raw.startswith(b'"'):
        return None
    new = orjson.dumps(text)[1:]
    return [Splice(prompt.end - 1, prompt.end, new, "continuation")]


def _value(raw: bytes) -> Any:
    """Texts that nobody looked at may be no UTF-8; such a value stands for itself."""
    try:
        return orjson.loads(raw)
    except orjson.JSONDecodeError:
        return raw
