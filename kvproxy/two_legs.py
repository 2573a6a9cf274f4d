"""A prompt computed on one replica and answered on another: both requests, and what can go wrong.

This stands before the upstream that sends bytes, and is one itself: a placement that names no other
replica passes straight through. Whatever happens to the leg that computes, the request is answered:
the replica that answers then computes the prompt itself. The claim on the computing replica is
settled here, once, when its leg ends.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import NamedTuple
from uuid import uuid4

import msgspec

from kvproxy.core.answer import AnswerWatch
from kvproxy.core.disagg.connectors import (
    RULES,
    Connector,
    Fields,
    Transfer,
    TransferError,
    pull_fields,
)
from kvproxy.core.disagg.grants import Grant, Grants
from kvproxy.core.disagg.legs import prefill_body, with_fields
from kvproxy.core.disagg.plan import Disagg
from kvproxy.core.errors import ProxyError
from kvproxy.core.pieces import Body, whole
from kvproxy.core.replica import Replica
from kvproxy.core.router import Placement, Router
from kvproxy.proxy import Answer, Exchange, Headers, Upstream
from kvproxy.relaying import still_wanted

_log = logging.getLogger("kvproxy.disagg")

# An answer of one token, with the ids of the prompt where those are handed on.
_ANSWER_BYTES_MAX = 16 * 2**20


@dataclass(slots=True)
class _Leg:
    """kvproxy's own request beside the client's, or the client's under another id."""

    method: str
    target: str
    path: str
    request_id: str
    header: Mapping[str, str]
    raw_headers: Headers
    press: Callable[[bool], None] | None = None
    congested: bool = False
    held: bool = False
    tunnels: bool = False

    @classmethod
    def beside(cls, exchange: Exchange, request_id: str) -> "_Leg":
        return cls(
            exchange.method,
            exchange.target,
            exchange.path,
            request_id,
            exchange.header,
            exchange.raw_headers,
        )

    async def accept(self) -> bytes:
        raise AssertionError("its body was given")

    def hold(self) -> None:
        raise AssertionError("nobody waits for it")

    def tunnel(self, sink: Callable[[bytes], None]) -> None:
        raise AssertionError("nobody sends more")

    def hold_back(self, full: bool) -> None:
        raise AssertionError("nobody sends more")

    def start(self, status: int, headers: Headers, placement: Placement) -> None:
        raise AssertionError("nobody is told of it")

    def send(self, chunk: bytes) -> None:
        raise AssertionError("nobody is told of it")

    def streaming(self, watch: AnswerWatch) -> None:
        raise AssertionError("nobody is told of it")

    def end(self) -> None:
        raise AssertionError("nobody is told of it")


class _Legs(NamedTuple):
    """A request in two: `placement`, `exchange` and `body` of the client's, and `leg` with `first`,
    the body that computes its prompt."""

    placement: Placement
    exchange: Exchange
    body: bytes
    leg: _Leg
    first: bytes
    transfer: Transfer


@dataclass(slots=True)
class TwoLegs:
    """`outcomes` counts by what happened: remote, pull, reused, or why a prompt was computed where
    it was answered."""

    upstream: Upstream
    router: Router
    disagg: Disagg
    clock: Callable[[], float]
    changed: Callable[[], None]
    grants: Grants = field(default_factory=Grants)
    outcomes: Counter[str] = field(default_factory=Counter)

    def open(
        self, placement: Placement, exchange: Exchange, body: Body
    ) -> AbstractAsyncContextManager[Answer]:
        if placement.placing.remote is None and not self.grants.waiting(exchange.request_id):
            return self.upstream.open(placement, exchange, body)
        return self._open(placement, exchange, whole(body))

    def abandon(self, replica: Replica) -> None:
        self.upstream.abandon(replica)

    @asynccontextmanager
    async def _open(
        self, placement: Placement, exchange: Exchange, body: bytes
    ) -> AsyncIterator[Answer]:
        remote, prefill = placement.placing.remote, placement.prefill
        prompt = placement.placing.chain.end
        granted = self.grants.take(exchange.request_id, prompt, self.clock())
        if granted is not None:
            # An earlier attempt had the prompt computed and found nobody to answer.
            self._settle(prefill)
            self.outcomes["reused"] += 1
            async with self._decode(placement, exchange, body, granted.fields) as answer:
                yield answer
            return
        if remote is None:
            async with self.upstream.open(placement, exchange, body) as answer:
                yield answer
            return
        transfer = self._transfer(placement)
        if remote.pulls:
            self.outcomes["pull"] += 1
            fields = pull_fields(transfer)
            async with self._decode(placement, exchange, body, fields) as answer:
                yield answer
            return
        assert prefill is not None
        rules = RULES[self.disagg.terms.connector]
        said = rules.prefill(transfer)
        if self.disagg.terms.hand_on_tokens and self.disagg.terms.connector is Connector.NIXL:
            said = {**said, "return_token_ids": True}
        first = prefill_body(exchange.path, body, said)
        if first is None:
            self._settle(prefill)
            self._whole(placement, "unsplittable")
            async with self.upstream.open(placement, exchange, body) as answer:
                yield answer
            return
        name = rules.request_id(transfer) if rules.request_id else exchange.request_id
        legs = _Legs(placement, exchange, body, _Leg.beside(exchange, name), first, transfer)
        way = self._together if rules.concurrent else self._in_turn
        async with way(legs, prefill) as answer:
            yield answer

    @asynccontextmanager
    async def _in_turn(self, legs: "_Legs", prefill: Placement) -> AsyncIterator[Answer]:
        """The prompt first, then the answer with what the first leg said."""
        rules, exchange = RULES[self.disagg.terms.connector], legs.exchange
        fields: Fields = {}
        try:
            said = await self._compute(prefill, legs.leg, legs.first)
            fields = rules.decode(legs.transfer, said)
        except (ProxyError, TransferError) as error:
            self._failed(legs.placement, error)
            async with self.upstream.open(legs.placement, exchange, legs.body) as answer:
                yield answer
            return
        self.outcomes["remote"] += 1
        asking = _Leg.beside(exchange, legs.leg.request_id) if rules.request_id else exchange
        try:
            async with self._decode(legs.placement, asking, legs.body, fields) as answer:
                yield answer
        except ProxyError as error:
            if error.code == "upstream_unreachable" and fields:
                # Nobody has loaded it: the next attempt may.
                prompt = legs.placement.placing.chain.end
                self.grants.put(exchange.request_id, Grant(fields, self.clock(), prompt))
            raise

    @asynccontextmanager
    async def _together(self, legs: "_Legs", prefill: Placement) -> AsyncIterator[Answer]:
        """Both at once; the answer is not begun before the prompt is computed, so that nothing was
        promised should that fail."""
        computing: asyncio.Task[Fields] | None = None
        failure: Exception | None = None
        async with AsyncExitStack() as stack:
            try:
                fields = RULES[self.disagg.terms.connector].decode(legs.transfer, {})
                computing = asyncio.create_task(self._compute(prefill, legs.leg, legs.first))
                stack.push_async_callback(self._end, computing, prefill)
                second = self._decode(legs.placement, legs.exchange, legs.body, fields)
                opening = asyncio.create_task(stack.enter_async_context(second))
                stack.push_async_callback(self._end, opening, None)
                await asyncio.wait({computing, opening}, return_when=asyncio.FIRST_COMPLETED)
                if opening.done():
                    opening.result()
                await computing
                answer = await opening
            except (ProxyError, TransferError) as error:
                if computing is not None and not _raised(computing, error):
                    raise  # it is the answering replica that failed
                failure = error
            else:
                self.outcomes["remote"] += 1
                yield answer
        if failure is not None:
            self._settle(prefill)
            self._failed(legs.placement, failure)
            async with self.upstream.open(legs.placement, legs.exchange, legs.body) as answer:
                yield answer

    @asynccontextmanager
    async def _decode(
        self, placement: Placement, exchange: Exchange, body: bytes, fields: Fields
    ) -> AsyncIterator[Answer]:
        """The leg that answers; learns how fast KV travels from when its first token came."""
        began = self.clock()
        async with self.upstream.open(placement, exchange, with_fields(body, fields)) as answer:
            yield answer
        remote, at = placement.placing.remote, placement.hold.first_token_at
        if remote is not None and at is not None and answer.status == 200:
            prefill = placement.prefill
            computed_at = prefill.hold.first_token_at if prefill is not None else None
            # Where both legs were sent at once, nothing travels before it is computed.
            began = max(began, computed_at or began)
            self.disagg.rate.observe(remote.tokens, at - began - placement.replica.rate.base_s)

    async def _compute(self, placement: Placement, leg: _Leg, body: bytes) -> Fields:
        """The members of the first leg's answer; its claim is settled when this returns or raises.

        Raises ProxyError where it did not answer, TransferError for what is no answer."""
        watch, said = AnswerWatch(()), bytearray()

        def listen(chunk: bytes) -> None:
            if watch.feed(chunk):
                self.router.first_token(placement, self.clock())
            if len(said) + len(chunk) <= _ANSWER_BYTES_MAX:
                said.extend(chunk)

        try:
            async with self.upstream.open(placement, leg, body) as answer:
                await answer.relay(listen, leg)
                still_wanted()
            if answer.status != 200:
                raise TransferError(f"it answered {answer.status}")
            fields = _members(bytes(said))
        except BaseException:
            self.router.abort(placement, self.clock())
            self.changed()
            raise
        self.router.finish(placement, watch.usage(), self.clock())
        self.changed()
        return fields

    def _transfer(self, placement: Placement) -> Transfer:
        remote = placement.placing.remote
        assert remote is not None
        source, goal = remote.replica.peer, placement.replica.peer
        assert source is not None and goal is not None, "only replicas with peers are chosen"
        return Transfer(uuid4().hex, source, goal)

    async def _end(self, task: "asyncio.Task[object]", prefill: Placement | None) -> None:
        """Nothing of it is left running, and its claim is settled, whatever came of it."""
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        self._settle(prefill)

    def _settle(self, prefill: Placement | None) -> None:
        """A claim that no leg settled."""
        if prefill is not None and not prefill.hold.released:
            self.router.abort(prefill, self.clock())
            self.changed()

    def _failed(self, placement: Placement, error: Exception) -> None:
        remote = placement.placing.remote
        assert remote is not None
        code = error.code if isinstance(error, ProxyError) else "refused"
        said = error.message if isinstance(error, ProxyError) else str(error)
        _log.warning(
            "replica %s did not compute a prompt for %s (%s): it is computed where it is answered",
            remote.replica.id,
            placement.replica.id,
            said,
        )
        self._whole(placement, f"prefill_{code}")

    def _whole(self, placement: Placement, why: str) -> None:
        self.outcomes[why] += 1
        missed = placement.placing.prompt_tokens - placement.placing.match.tokens
        prefill_s = placement.replica.rate.prefill_s(
            max(1, missed), placement.placing.prompt_tokens
        )
        placement.replica.load.revise(placement.hold, prefill_s)


def _raised(task: "asyncio.Task[Fields]", error: Exception) -> bool:
    return task.done() and not task.cancelled() and task.exception() is error


def _members(body: bytes) -> Fields:
    try:
        value = msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError) as error:
        raise TransferError("its answer is not JSON") from error
    if not isinstance(value, dict):
        raise TransferError("its answer is not a JSON object")
    return value
