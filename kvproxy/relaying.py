"""How an answer that began is passed on, whatever it is and whatever was asked for beside it."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

from kvproxy.core.answer import AnswerWatch
from kvproxy.core.errors import ProxyError
from kvproxy.core.headers import resized
from kvproxy.core.refusal import Said, is_stream, refusal
from kvproxy.core.router import Placement
from kvproxy.core.token_ids import TokenIds


class Stream(NamedTuple):
    """An answer into which nobody looks any more: what comes of it is put on `watch`'s pile and
    sent, by `send` or, as a chunk of HTTP/1.1, by `write`."""

    watch: AnswerWatch
    send: Callable[[bytes], None]
    write: Callable[[bytes], object]


# Takes a part of an answer in the very call in which it arrives; whoever brings them may do with
# the following as a stream that it returns says.
Feed = Callable[[bytes], Stream | None]


class Relayed(Protocol):
    @property
    def status(self) -> int: ...

    @property
    def headers(self) -> Sequence[tuple[bytes, bytes]]: ...

    async def relay(self, feed: Feed, exchange: Any) -> None: ...


def feeding(record: Any, watch: AnswerWatch, first_token: Callable[[], None]) -> Feed:
    """What gives an answer to `watch` and to the client. From its first token on nobody looks into
    a chunk any more, unless its stream may have to go on elsewhere."""
    exchange = record.exchange

    def pass_on(chunk: bytes) -> Stream | None:
        flow, first = record.flow, watch.feed(chunk)
        if first:
            first_token()
        exchange.send(chunk if flow is None else flow.feed(chunk))
        return exchange.streaming(watch) if first and flow is None else None

    return pass_on


async def relay(
    record: Any, answer: Relayed, placement: Placement, ids: TokenIds | None, pass_on: Feed
) -> None:
    """The head goes to the client, unless its stream has begun, and then the body; `ids` are taken
    out of it. Raises ProxyError for what cannot follow a head that was sent."""
    exchange, headers = record.exchange, answer.headers
    streams = is_stream(answer.status, headers)
    if not streams:
        record.flow = None
        if exchange.held or record.continued:
            raise await refused(answer, exchange, placement)
    if ids is not None:
        await _without_ids(ids, answer, exchange, placement, pass_on)
    else:
        if not record.continued:
            exchange.start(answer.status, headers, placement)
        await answer.relay(pass_on, exchange)
    if record.flow is not None:
        if record.flow.broken is not None:
            still_wanted()
        exchange.send(record.flow.end())


def still_wanted() -> None:
    """Between an answer and what would be asked because of it: raises CancelledError where that
    came at the answer's very end, which by itself is let go to its end."""
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


async def _without_ids(
    ids: TokenIds, answer: Relayed, exchange: Any, placement: Placement, pass_on: Feed
) -> None:
    """Relays an answer that tells token ids: a stream as it comes, any other once it is whole."""
    headers, streams = answer.headers, is_stream(answer.status, answer.headers)
    if streams:
        exchange.start(answer.status, headers, placement)
    await answer.relay(ids.lines_to(pass_on) if streams else ids.keep, exchange)
    rest = ids.rest()
    if not streams:
        exchange.start(answer.status, resized(headers, len(rest)), placement)
    if rest:
        pass_on(rest)


async def refused(answer: Relayed, exchange: Any, placement: Placement) -> ProxyError:
    """What is told to a client that was promised a stream, of an answer that is none."""
    said = Said()
    await answer.relay(said.listen, exchange)
    still_wanted()
    return refusal(placement.replica.id, answer.status, bytes(said.kept))
