"""The request path's Placer in a worker: decisions are made in the placement process.

While that is away, or takes no more, the worker goes on alone with what it knows: its own holds,
the replicas' health when last told, rendezvous over sessions. What it holds is told to the next
placement process.
"""

import asyncio
from array import array
from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from itertools import count

from msgspec.structs import replace

from kvproxy.adapters.hop.link import HopLink, LostError
from kvproxy.core import hop
from kvproxy.core.breaks import Break, Cause
from kvproxy.core.diagnosis import Stake, verdict
from kvproxy.core.headers import priority_of
from kvproxy.core.life_cycle import Evidence, Health
from kvproxy.core.pieces import whole
from kvproxy.core.replica import Replica
from kvproxy.core.router import Placement, Placing, Router
from kvproxy.core.runs import Run
from kvproxy.core.score import Match, Score
from kvproxy.core.threads import Step, Thread
from kvproxy.core.tokenise import salt_of
from kvproxy.core.types import Chain, Identity
from kvproxy.proxy import Placer, Record

_NOWHERE = Run(None, array("Q"), array("I"), 0)
_NOBODY = Identity("", "", "")


@dataclass(slots=True)
class _Asked:
    record: Record
    future: "asyncio.Future[Placement]"
    sent_at: float


@dataclass(slots=True)
class _Claim:
    """Under way. `own`: placed by this worker alone; `known`: to the placement process there is.
    `well`: the replica answered, which is still to be told; `tell`: the prompt is wanted."""

    n: int
    own: bool
    known: bool
    tell: bool = False
    well: bool = False
    began: bool = False


@dataclass(slots=True)
class Ears:
    """Who is told of what: `changed` of replicas, `new_era` of another placement process, `took` of
    the seconds a decision spent under way, `alone` why this worker decided by itself. `answer` is
    what the placement process may ask: what, about what; `replicas` are those there are now."""

    changed: Callable[[Replica], None]
    new_era: Callable[[], None]
    took: Callable[[float], None]
    alone: Callable[[str], None]
    answer: Callable[[str, str], bytes]
    replicas: Callable[[Sequence[hop.ReplicaState]], None]


@dataclass(slots=True)
class HopPlacer:
    """`local` places on `router`, this worker's own, when it has to. `limited` names keys with
    rates: those are counted in the placement process. `link` is set once it is made."""

    local: Placer
    router: Router
    clock: Callable[[], float]
    limited: AbstractSet[str]
    ears: Ears
    link: HopLink = field(init=False)
    claims: dict[Placement, _Claim] = field(default_factory=dict)
    _numbers: "count[int]" = field(default_factory=lambda: count(1))
    _asked: dict[int, _Asked] = field(default_factory=dict)
    _under_way: list[float] = field(default_factory=list)

    async def place(self, record: Record, tried: frozenset[str]) -> Placement:
        if self.link.up and not self.link.full:
            try:
                return await self._ask(record, tried)
            except LostError:
                pass
        self.ears.alone("full" if self.link.full else "lost")
        placement = await self.local.place(record, tried)
        claim = self.claims[placement] = _Claim(next(self._numbers), own=True, known=False)
        if self.link.up and not self.link.full:
            self.link.say(self._adopt(placement, claim))
        return placement

    def first_token(self, placement: Placement) -> None:
        claim = self.claims[placement]
        claim.began = True
        if claim.own:
            self.local.first_token(placement)
        else:
            placement.replica.load.first_token(placement.hold, self.clock())
        if claim.known:
            self.link.mention(hop.Began(claim.n, claim.well))
            claim.well = False

    def finish(self, record: Record, placement: Placement) -> None:
        claim, usage = self.claims.pop(placement), record.usage
        if claim.own:
            self.local.finish(record, placement)
        else:
            placement.replica.load.release(placement.hold, self.clock())
            if record.turn is not None:
                name = placement.replica.id
                record.verdict = verdict(record.stake, record.turn, name, usage)
        if not claim.known:
            return
        figures, prompt = None, None
        if usage is not None:
            figures = (
                usage.prompt_tokens,
                usage.completion_tokens,
                usage.cached_tokens,
                usage.created_tokens,
            )
            fits = len(record.body) <= hop.PROMPT_BYTES_MAX and not self.link.full
            if claim.tell and fits and record.turn is not None:
                prompt = (salt_of(record.turn), record.exchange.path, whole(record.body))
        response = (record.tenant, record.response) if record.response else None
        streamed = record.status == 200 and record.turn is not None and record.turn.stream
        done = hop.Done(claim.n, claim.well, figures, prompt, response, streamed)
        if response is not None:
            # The client may go on from it at once, through whichever worker.
            self.link.say(done)
        else:
            self.link.mention(done)

    def abort(self, placement: Placement) -> None:
        claim = self.claims.pop(placement)
        if claim.own:
            self.local.abort(placement)
        else:
            placement.replica.load.release(placement.hold, self.clock())
        if claim.known:
            self.link.say(hop.Abort(claim.n, claim.well))

    def seen(self, placement: Placement, evidence: Evidence, wait_s: float = 0.0) -> None:
        if not self.link.up:
            self.local.seen(placement, evidence, wait_s)
            return
        if wait_s:
            self.link.say(hop.Declined(placement.replica.id, wait_s))
        if evidence is Evidence.FAILED:
            self.link.say(hop.Failed(placement.replica.id))
        elif placement in self.claims:
            self.claims[placement].well = True

    async def may_retry(self, model: str, tried: frozenset[str]) -> bool:
        try:
            answer = await self.link.ask(lambda q: hop.MayRetry(q, model, sorted(tried)))
        except LostError:
            return await self.local.may_retry(model, tried)
        assert isinstance(answer, hop.Allowed)
        return answer.yes

    # What the link tells.

    def joined(self) -> Sequence[hop.FromWorker]:
        self.ears.new_era()
        return [self._adopt(placement, claim) for placement, claim in self.claims.items()]

    def lost(self) -> None:
        for claim in self.claims.values():
            claim.known = False
        asked, self._asked = self._asked, {}
        for each in asked.values():
            if not each.future.done():
                each.future.set_exception(LostError())

    def heard(self, message: hop.FromPlacement) -> None:
        match message:
            case hop.Placed():
                self._placed(message)
            case hop.Refused():
                asked = self._asked.pop(message.n, None)
                if asked is not None and not asked.future.done():
                    asked.future.set_exception(hop.error_of(message))
            case hop.Handled():
                for took_s in self._under_way:
                    self.ears.took(max(0.0, took_s - message.inside_s))
                self._under_way.clear()
            case hop.State():
                self._know(message.replicas)
            case hop.Ask():
                told = self.ears.answer(message.what, message.about)
                self.link.say(hop.Heard(message.q, told))

    async def _ask(self, record: Record, tried: frozenset[str]) -> Placement:
        n = next(self._numbers)
        future: asyncio.Future[Placement] = asyncio.get_running_loop().create_future()
        # While nothing else is asked nobody would share its frame; else more may be about to.
        alone = not self._asked
        self._asked[n] = _Asked(record, future, self.clock())
        self.link.say(self._asking(n, record, tried), at_once=alone)
        try:
            return await future
        except asyncio.CancelledError:
            if self._asked.pop(n, None) is not None:
                self.link.say(hop.Abort(n, well=False))
            elif not future.cancelled() and future.exception() is None:
                # Placed and cancelled in one turn of the loop: nobody else would settle it.
                self.abort(future.result())
            raise
        finally:
            # What is raised refers to this call, and must not be referred to by it.
            del future

    def _asking(self, n: int, record: Record, tried: frozenset[str]) -> hop.Place | hop.Anywhere:
        turn, identity, key = record.turn, record.identity, record.caller.key
        limited = key.name if key is not None and key.name in self.limited else ""
        after = record.claim
        record.claim = n
        if turn is None or identity is None:
            return hop.Anywhere(
                n,
                record.passing_model,
                sorted(tried),
                limited,
                after,
                record.tenant,
                record.previous,
            )
        asked = key.priority if key is not None else None
        return hop.Place(
            n,
            hop.identity_fields(identity),
            hop.pack(turn.chain),
            sorted(tried),
            priority_of(record.exchange.header) if asked is None else asked,
            record.exchange.request_id,
            limited,
            after,
            record.tenant,
            record.previous,
        )

    def _placed(self, placed: hop.Placed) -> None:
        asked = self._asked.pop(placed.n, None)
        if asked is None:
            # Its request was cancelled; that was told, but maybe before it was asked there.
            self.link.say(hop.Abort(placed.n, well=False))
            return
        replica = self.router.replica(placed.replica)
        if asked.future.done() or replica is None:
            self.link.say(hop.Abort(placed.n, well=False))
            if not asked.future.done():
                asked.future.set_exception(LostError())
            return
        record, now = asked.record, self.clock()
        if not placed.waited_s:
            self._under_way.append(now - asked.sent_at)
        record.pin, record.pinned = placed.pin or record.pin, placed.pinned
        if record.identity is not None and record.identity.session != placed.session:
            record.identity = replace(record.identity, session=placed.session)
        turn, score = record.turn, Score(*placed.score)
        placing = Placing(
            record.identity or _NOBODY,
            turn.chain if turn is not None else Chain(),
            replica,
            Match(*placed.match),
            placed.prompt_tokens,
            score,
            record.exchange.request_id if turn is not None else "",
            placed.waited_s,
        )
        hold = replica.load.reserve(replica.id, score.prefill_s, now)
        placement = Placement(placing, replica, self.router.policy, hold, _NOWHERE, now)
        if placed.step is not None and record.identity is not None:
            record.step = _step(placed, record.identity.agent, placing.chain)
            record.stake = Stake(*placed.stake) if placed.stake is not None else None
        self.claims[placement] = _Claim(placed.n, own=False, known=True, tell=placed.tell)
        asked.future.set_result(placement)

    def _adopt(self, placement: Placement, claim: _Claim) -> hop.Adopt:
        claim.known = True
        placing = placement.placing
        return hop.Adopt(
            claim.n,
            hop.identity_fields(placing.identity),
            hop.pack(placing.chain),
            placement.replica.id,
            placing.prompt_tokens,
            placing.score.prefill_s,
            claim.began,
        )

    def _know(self, states: Sequence[hop.ReplicaState]) -> None:
        """The replicas as the placement process sees them."""
        self.ears.replicas(states)
        known = {replica.id: replica for replica in self.router.replicas}
        for state in states:
            replica = known.get(state.id)
            if replica is None:
                continue
            replica.models, replica.kv_events = tuple(state.models), state.kv_events
            replica.block_size, replica.weight = state.block_size, state.weight
            if replica.hbm_tokens != state.hbm_tokens:
                replica.fit(state.hbm_tokens)
            if replica.health != state.health:
                replica.life.health = Health(state.health)
                self.ears.changed(replica)


def _step(placed: hop.Placed, agent: str, chain: Chain) -> Step | None:
    if placed.step is None:
        return None
    number, parent, turns, broke = placed.step
    became = Break(Cause(broke[0]), broke[1], broke[2]) if broke is not None else None
    return Step(Thread(number, agent, parent, turns, chain), None, became)
