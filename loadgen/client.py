"""Sends one chat request, streams the answer and fills in its sample.

Latencies are taken twice: from the moment the request was meant to leave, which includes every
delay of this client, and from the moment it was written to the wire.
"""

import asyncio
import time
from dataclasses import dataclass

import msgspec

from loadgen.answer import Answer
from loadgen.chaos import WELL, Fault
from loadgen.sample import Sample
from loadgen.sse import StreamError
from loadgen.wire import Exchange, Wire, WireError

ATTEMPTS_MAX = 6
BACKOFF_S = 0.5
BACKOFF_MAX_S = 30.0


class _GivenUpError(Exception):
    """This client has had enough of the answer."""


class _Decision(msgspec.Struct):
    policy: str = ""
    replica: str = ""
    predicted_cached_tokens: int | None = None
    evidence: str = ""
    queue_s: float | None = None
    waited_s: float | None = None


@dataclass(frozen=True, slots=True)
class ClientSettings:
    """`time_scale` is engine seconds per real second; `timeout_s` bounds one attempt."""

    time_scale: float = 1.0
    timeout_s: float = 900.0
    keep_chunks: bool = True
    path: str = "/v1/chat/completions"


class Client:
    """Fills samples; `start` is the monotonic time that their `t_*` count from."""

    def __init__(self, wire: Wire, settings: ClientSettings, start: float) -> None:
        self._wire = wire
        self._settings = settings
        self._start = start

    def ended_at(self, sample: Sample) -> float:
        """The monotonic time at which the last byte of the answer came."""
        assert sample.t_end is not None, "the request has not ended"
        return self._start + sample.t_end

    async def send(
        self,
        sample: Sample,
        headers: dict[str, str],
        body: bytes,
        intended: float,
        fault: Fault = WELL,
    ) -> None:
        """Send until answered, refused for good or out of attempts; never raises but for
        cancellation, which leaves the sample marked `cancelled`. `fault` is what this client does
        to its own request; one that it gave up is marked `aborted`."""
        sample.fault = fault.name
        sample.t_intended = round(intended - self._start, 6)
        try:
            await self._until_answered(sample, headers, body, intended, fault)
        finally:
            if sample.error == "cancelled":
                sample.t_end = round(time.monotonic() - self._start, 6)
            if sample.error and sample.t_first_token is None and sample.t_end is not None:
                scale = self._settings.time_scale
                sample.silent_s = round((sample.t_end - sample.t_intended) * scale, 6)

    async def _until_answered(
        self, sample: Sample, headers: dict[str, str], body: bytes, intended: float, fault: Fault
    ) -> None:
        for attempt in range(1, ATTEMPTS_MAX + 1):
            sample.attempts = attempt
            answer = Answer()
            exchange = await self._attempt(sample, headers, body, answer, fault)
            if exchange is not None:
                self._measure(sample, exchange, answer, intended)
            if sample.status not in (429, 503) or attempt == ATTEMPTS_MAX:
                return
            await self._back_off(sample, exchange, attempt)

    async def _attempt(
        self, sample: Sample, headers: dict[str, str], data: bytes, answer: Answer, fault: Fault
    ) -> Exchange | None:
        sample.error = sample.error_detail = ""
        sample.status = 0
        began = time.monotonic()
        if sample.lag_s is None:
            sample.lag_s = round(began - self._start - sample.t_intended, 6)

        def feed(now: float, piece: bytes) -> None:
            answer.feed(now, piece)
            if sample.t_first_token is None and answer.times:
                # At once: who waits too long is known while requests are still in flight.
                sample.t_first_token = self._since(answer.times[0])
            if fault.abort_bytes is not None and sum(answer.sizes) >= fault.abort_bytes:
                raise _GivenUpError

        patience_s = self._settings.timeout_s if fault.abort_s is None else fault.abort_s
        path, slowly = self._settings.path, fault.bytes_per_s
        try:
            async with asyncio.timeout(min(self._settings.timeout_s, patience_s)):
                return await self._wire.exchange(
                    "POST", path, headers, data, feed, bytes_per_s=slowly
                )
        except _GivenUpError:
            sample.error = "aborted"
        except WireError as error:
            after_token = error.kind == "disconnect" and answer.times
            sample.error = "stream_disconnect" if after_token else error.kind
            sample.error_detail = str(error)[:200]
        except StreamError as error:
            sample.error, sample.error_detail = "bad_stream", str(error)[:200]
        except TimeoutError:
            sample.error = "timeout" if fault.abort_s is None else "aborted"
        except asyncio.CancelledError:
            sample.error = "cancelled"
            sample.t_sent = round(began - self._start, 6)
            raise
        sample.t_sent = round(began - self._start, 6)
        sample.t_end = round(time.monotonic() - self._start, 6)
        return None

    async def _back_off(self, sample: Sample, exchange: Exchange | None, attempt: int) -> None:
        asked = exchange.headers.get("retry-after", "") if exchange is not None else ""
        wait_s = float(asked) if asked.isdecimal() else BACKOFF_S * 2 ** (attempt - 1)
        try:
            await asyncio.sleep(min(wait_s, BACKOFF_MAX_S))
        except asyncio.CancelledError:
            sample.error = "cancelled"
            raise

    def _measure(self, sample: Sample, exchange: Exchange, answer: Answer, intended: float) -> None:
        sample.status = exchange.status
        sample.t_sent = self._since(exchange.sent)
        sample.t_written = self._since(exchange.written)
        sample.t_first_byte = self._since(exchange.first_byte)
        sample.t_end = self._since(exchange.end)
        _read_headers(sample, exchange.headers)
        if exchange.status != 200:
            sample.error = _status_class(exchange.status)
            sample.error_detail = answer.head[:200].decode(errors="replace")
            return
        if answer.error:
            sample.error, sample.error_detail = "engine_error", answer.error[:200]
        elif not answer.done:
            sample.error = "truncated"
        self._read_usage(sample, answer)
        scale = self._settings.time_scale
        if answer.times:
            first = answer.times[0]
            sample.t_first_token = self._since(first)
            sample.ttft_s = round((first - intended) * scale, 6)
            sample.ttft_wire_s = round((first - exchange.sent) * scale, 6)
            sample.itl_s = _itl_s(answer, sample.completion_tokens, scale)
            if self._settings.keep_chunks:
                sample.chunks = [round((at - first) * 1e4) for at in answer.times]
        elif not sample.error:
            sample.error = "no_tokens"
        sample.e2e_s = round((exchange.end - intended) * scale, 6)

    def _read_usage(self, sample: Sample, answer: Answer) -> None:
        usage = answer.usage
        if usage is None:
            return
        sample.prompt_tokens = usage.prompt
        sample.completion_tokens = usage.completion
        sample.cached_tokens = usage.cached

    def _since(self, at: float) -> float | None:
        return round(at - self._start, 6) if at else None


def _itl_s(answer: Answer, tokens: int | None, scale: float) -> float | None:
    """Mean time between tokens. A chunk may carry several; those of the first came together
    with the first token, so they do not count, in proportion to its text."""
    total = tokens or len(answer.times)
    first = max(1, round(total * answer.sizes[0] / sum(answer.sizes)))
    if total <= first:
        return None
    return round((answer.times[-1] - answer.times[0]) * scale / (total - first), 6)


def _read_headers(sample: Sample, headers: dict[str, str]) -> None:
    sample.request_id = headers.get("x-request-id", "")
    sample.replica = headers.get("x-kvproxy-replica", "")
    text = headers.get("x-kvproxy-decision")
    if text is None:
        return
    try:
        decision = msgspec.json.decode(text, type=_Decision)
    except (msgspec.DecodeError, msgspec.ValidationError) as error:
        sample.error_detail = f"unreadable x-kvproxy-decision: {error}"[:200]
        return
    sample.policy, sample.evidence = decision.policy, decision.evidence
    sample.predicted_cached_tokens = decision.predicted_cached_tokens
    sample.queue_s, sample.waited_s = decision.queue_s, decision.waited_s


def _status_class(status: int) -> str:
    if status in (429, 503):
        return "rate_limited" if status == 429 else "unavailable"
    return f"http_{status // 100}xx"
