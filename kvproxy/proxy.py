"""The life of a request, top to bottom. Everything it does is in the modules it calls.

The ports below are what the outside must offer; adapters implement them, app.py joins them.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Protocol

from msgspec import Struct
from msgspec.structs import replace

from kvproxy.core.access import UNASKED, Access, Caller, realm_of
from kvproxy.core.afterwards import remember, used_tokens
from kvproxy.core.answer import AnswerWatch
from kvproxy.core.continuation import MARK, Continuation, continuation_of
from kvproxy.core.declined import DECLINES, outcome_of, said
from kvproxy.core.diagnosis import NOTHING, Stake, Verdict
from kvproxy.core.dialects import dialect_of
from kvproxy.core.dialects.base import Dialect
from kvproxy.core.dry_run import Reader
from kvproxy.core.errors import TWICE_LOST, ProxyError
from kvproxy.core.holdings import Outcome
from kvproxy.core.identify import HeaderRule, identify, tenant_of
from kvproxy.core.life_cycle import Evidence
from kvproxy.core.members import continued
from kvproxy.core.pieces import Body, spliced, whole
from kvproxy.core.pools import Pools
from kvproxy.core.replica import Replica
from kvproxy.core.response_homes import id_asked_for
from kvproxy.core.router import Placement
from kvproxy.core.threads import Step
from kvproxy.core.token_ids import TokenIds, asking
from kvproxy.core.transfers import members_of
from kvproxy.core.turn import Turn
from kvproxy.core.types import Identity, Usage
from kvproxy.passing_on import pass_on
from kvproxy.patience import Patience, patience_with
from kvproxy.relaying import Feed, Stream, feeding, relay

Headers = Sequence[tuple[bytes, bytes]]
# Whether what was just read has to be read again, since another process spelled it first.
Agree = Callable[[], Awaitable[bool]]

# No byte of an answer came, so the client has seen nothing and another replica may be asked.
_NO_ANSWER = frozenset({"upstream_unreachable", "upstream_lost"})
_LOST_MAX = 2
_CODED = "content-encoding"


class Exchange(Protocol):
    """The client's side of one request. `header` has lower-case names, the last value wins.

    `congested`: it takes no more for now; when that changes `press` is called with what is so.
    `tunnels`: it asks for a WebSocket, which an answer of 101 makes it."""

    method: str
    target: str
    path: str
    request_id: str
    header: Mapping[str, str]
    raw_headers: Headers
    press: Callable[[bool], None] | None
    tunnels: bool

    def tunnel(self, sink: Callable[[bytes], None]) -> None:
        """After 101: what the client sends goes to `sink`."""

    def hold_back(self, full: bool) -> None:
        """Whether the client of a tunnel may send no more for now."""

    @property
    def congested(self) -> bool: ...

    async def accept(self) -> Body:
        """The whole body, bounded; raises ProxyError body_too_large, request_timeout, …"""

    @property
    def held(self) -> bool:
        """Whether the client was told that it waits: the head of an event stream is sent."""

    def hold(self) -> None:
        """Tells a client that asked for a stream that it waits, where that can be told."""

    def start(self, status: int, headers: Headers, placement: Placement) -> None:
        """The head; of one that was held it is sent already."""

    def send(self, chunk: bytes) -> None: ...

    def streaming(self, watch: AnswerWatch) -> Stream | None:
        """How the rest of an answer may be sent beside send(), if it may."""

    def end(self) -> None: ...


class Answer(Protocol):
    status: int
    headers: Headers

    async def relay(self, feed: Feed, exchange: Exchange) -> None:
        """Gives the body to `feed` in the very call in which it arrives, no faster than `exchange`
        takes it; raises ProxyError upstream_broke if it stops early."""


class Upstream(Protocol):
    def open(
        self, placement: Placement, exchange: Exchange, body: Body
    ) -> AbstractAsyncContextManager[Answer]:
        """Raises ProxyError upstream_unreachable when the request was not sent, upstream_lost when
        it was and no byte of an answer came."""

    def abandon(self, replica: Replica) -> None:
        """Nothing will come from there any more: whoever waits for a byte of it fails at once."""


class Placer(Protocol):
    """What is known of the replicas and reserved on them, in this process or in another one."""

    async def place(self, record: "Record", tried: frozenset[str]) -> Placement:
        """Look up, score and pick, wait for the turn, hold: settled once, by finish or abort. Sets
        the record's step. Raises ProxyError overloaded, rate_limited, no_replica or
        model_not_found."""

    def first_token(self, placement: Placement) -> None: ...

    def finish(self, record: "Record", placement: Placement) -> None:
        """The answer ended with the record's usage; sets its verdict and what was learned."""

    def abort(self, placement: Placement) -> None: ...

    def seen(self, placement: Placement, evidence: Evidence, wait_s: float = 0.0) -> None:
        """What was seen of its replica, which asks to be left alone for so long."""

    async def may_retry(self, model: str, tried: frozenset[str]) -> bool:
        """Whether somebody is left to try and the budget allows it, which is then spent."""


class Record(Struct):
    """One request, for metrics and the access log. Times in seconds, sizes in tokens; `body` is
    what was forwarded of a prompt. `previous`: the response that it goes on from or asks for, and
    `pin` what came of that (held by the replica it is `pinned` to, gone, unknown); `response`: what
    its own answer is called; `claim`: its last attempt, as another process knows it."""

    exchange: Exchange
    began: float
    caller: Caller = UNASKED
    identity: Identity | None = None
    turn: Turn | None = None
    placement: Placement | None = None
    usage: Usage | None = None
    passing_model: str = ""
    step: Step | None = None
    stake: Stake | None = None
    verdict: Verdict = NOTHING
    status: int = 0
    outcome: str = "ok"
    ttft_s: float | None = None
    total_s: float = 0.0
    attempts: int = 0
    lost: int = 0
    claim: int = 0
    waited_s: float = 0.0
    learned: Outcome | None = None
    body: Body = b""
    token_ids: TokenIds | None = None
    tenant: str = ""
    previous: str = ""
    pin: str = ""
    pinned: str = ""
    response: str = ""
    flow: Continuation | None = None
    continued: int = 0


@dataclass(frozen=True, slots=True)
class Proxy:
    placer: Placer
    reader: Reader
    upstream: Upstream
    rules: Sequence[HeaderRule]
    clock: Callable[[], float]
    observe: Callable[[Record], None]
    access: Access
    pools: Pools = field(default_factory=Pools)
    ask_ids: Callable[[Record], bool] = lambda record: False
    keepalive_s: float | None = None
    cache_hints: bool = True
    agree: Agree | None = None
    continues: bool = False

    async def handle(self, exchange: Exchange) -> None:
        record = Record(exchange, self.clock())
        try:
            realm = realm_of(exchange.path)
            record.caller = self.access.enter(exchange.header, realm, record.began)
            record.tenant = record.caller.tenant or tenant_of(exchange.header)
            body = await exchange.accept()
            dialect = dialect_of(exchange.method, exchange.path)
            if dialect is not None and (_CODED not in exchange.header or members_of(whole(body))):
                body = await self._read(record, dialect, body)
            elif exchange.tunnels or body:
                named, body = pass_on(self.pools, self.rules, exchange, record.caller, whole(body))
                record.passing_model = named.model
            if dialect is None:
                record.previous = id_asked_for(exchange.path)
            streams = record.turn is not None and record.turn.stream
            if self.continues and record.turn is not None:
                record.flow = continuation_of(record.turn)
            with patience_with(exchange, self.keepalive_s if streams else None) as patience:
                await self._place_and_forward(record, body, patience)
        except ProxyError as error:
            record.outcome, record.status = error.code, record.status or error.status
            raise
        except asyncio.CancelledError:
            record.outcome = "client_gone"
            raise
        except BaseException:
            record.outcome = "internal"
            raise
        finally:
            record.total_s = self.clock() - record.began
            self.observe(record)

    async def _read(self, record: Record, dialect: Dialect, body: Body) -> Body:
        """Identify, canonicalise and hash: all that can be said before a replica is looked at."""
        headers, tenant = record.exchange.header, record.tenant
        if not headers.get("content-type", "").lower().startswith("application/json"):
            asked = "Unsupported Media Type: send application/json."
            raise ProxyError("unsupported_media_type", asked)
        named = identify(tenant, "", headers, {}, self.rules)
        turn = self.reader.read(dialect, tenant, body, named.session)
        if self.agree is not None and await self.agree():
            turn = self.reader.read(dialect, tenant, body, named.session, anew=True)
        record.caller.may_use(turn.sent, turn.members or members_of(whole(body)))
        record.turn = turn
        hint = turn.marks.retention_s if self.cache_hints else 0.0
        if not named.session:
            named = identify(tenant, turn.model, headers, turn.members, self.rules)
        record.identity = replace(named, model=turn.model, retention_s=hint)
        record.previous = continued(dialect, turn.members)
        record.body = spliced(body, turn.splices)
        return record.body

    async def _place_and_forward(self, record: Record, body: Body, patience: Patience) -> None:
        """Try replicas until one answers; nothing is tried twice, and nothing after its start."""
        tried: frozenset[str] = frozenset()
        while True:
            record.attempts += 1
            patience.begin()
            placement = await self._admit(record, tried)
            patience.placed()
            tried |= {placement.replica.id}
            try:
                await self._forward(record, placement, body, tried, patience)
                return
            except ProxyError as error:
                if error.code == "upstream_declined":
                    continue
                silent = error.code == "upstream_timeout" and not record.status
                unanswered = silent or error.code in _NO_ANSWER
                if unanswered:
                    self.placer.seen(placement, Evidence.FAILED)
                    record.lost += error.code != "upstream_unreachable"
                if record.flow is not None and record.flow.begun:
                    if not (body := await self._go_on(record, record.flow, error, tried)):
                        return
                    continue
                if not unanswered or not await self._may_retry(record, tried):
                    error.message += TWICE_LOST if unanswered and record.lost >= _LOST_MAX else ""
                    raise

    async def _go_on(
        self, record: Record, flow: Continuation, error: ProxyError, tried: frozenset[str]
    ) -> bytes:
        """What to ask for the rest of a stream that broke off, b"" when it was over; or raises."""
        if (closing := flow.closing()) is not None:
            record.exchange.send(closing)
            record.exchange.end()
            return b""
        again = flow.resume(error, whole(record.body))
        if again is None or not await self._may_retry(record, tried):
            raise error.anew()
        record.exchange.send(MARK)
        record.continued = flow.times
        return again

    async def _admit(self, record: Record, tried: frozenset[str]) -> Placement:
        now = self.clock()
        placement = record.placement = await self.placer.place(record, tried)
        if record.turn is not None:
            record.waited_s += self.clock() - now
        return placement

    async def _may_retry(self, record: Record, tried: frozenset[str]) -> bool:
        """Whether somebody is left to try. A request that came to nothing on two replicas may be
        what ends engines: it is not shown to a third."""
        if record.lost >= _LOST_MAX or record.pinned:
            return False
        model = record.identity.model if record.identity else ""
        return await self.placer.may_retry(model, tried)

    async def _forward(
        self,
        record: Record,
        placement: Placement,
        body: Body,
        tried: frozenset[str],
        patience: Patience,
    ) -> None:
        """Relay the answer as it comes; whatever happens, the placement is settled once."""
        exchange, turn = record.exchange, record.turn
        preamble, tap = (turn.dialect.preamble, self.reader.tap(turn)) if turn else ((), None)
        watch = AnswerWatch(preamble, tap)
        wanted = not record.continued and self.ask_ids(record)
        ids = record.token_ids = TokenIds() if wanted else None
        body = body if ids is None else asking(whole(body))

        def first_token() -> None:
            if record.ttft_s is None and record.status == 200:
                record.ttft_s = self.clock() - record.began
            self.placer.first_token(placement)

        try:
            async with self.upstream.open(placement, exchange, body) as answer:
                self.placer.seen(placement, *said(answer.status, answer.headers))
                record.lost += answer.status == 500
                if answer.status in DECLINES and await self._may_retry(record, tried):
                    declined = f"Replica {placement.replica.id} answered {answer.status}."
                    raise ProxyError("upstream_declined", declined)
                patience.stop()
                record.status = answer.status
                if answer.status >= 400:
                    record.outcome = outcome_of(answer.status)
                pass_on = feeding(record, watch, first_token)
                await relay(record, answer, placement, ids, pass_on)
                exchange.end()
            if turn is not None and answer.status == 200:
                record.usage = watch.usage()
                record.response = remember(self.reader, turn, record.tenant, watch, record.usage)
                record.caller.used(used_tokens(record.usage, placement), self.clock())
        except BaseException:
            record.caller.used(used_tokens(None, placement), self.clock())
            self.placer.abort(placement)
            watch.taken()
            raise
        watch.taken()
        self.placer.finish(record, placement)
