"""The placement process's side of every claim its workers make, without the network.

take() handles one message and says what there is to answer; lost() ends all that a worker held.
Each claim is asked for once and ends once: by Done, by Abort, by a refusal, or with its worker.
"""

from collections.abc import Callable
from typing import Any

from kvproxy.core import hop
from kvproxy.core.access import Access
from kvproxy.core.admission import Admission
from kvproxy.core.afterwards import used_tokens
from kvproxy.core.breaks import Cause
from kvproxy.core.claims import NO_PIN, Asked, Ears, Holding, Pin, Told, Worker
from kvproxy.core.diagnosis import Diagnosis
from kvproxy.core.errors import ProxyError
from kvproxy.core.life_cycle import Evidence
from kvproxy.core.line import Ticket
from kvproxy.core.replica import Replica
from kvproxy.core.response_homes import Kept, followed
from kvproxy.core.retry_budget import RetryBudget
from kvproxy.core.router import Placement, Placing, Router
from kvproxy.core.score import Match, Score
from kvproxy.core.spellings import Spellings
from kvproxy.core.types import Usage


class Desk:
    """`say` sends a message to a worker. Workers are named by numbers that are not used again."""

    def __init__(
        self,
        *,
        router: Router,
        admission: Admission,
        diagnosis: Diagnosis,
        access: Access,
        spellings: Spellings,
        ears: Ears,
        say: Callable[[int, hop.FromPlacement], None],
    ) -> None:
        self.workers: dict[int, Worker] = {}
        self.retries = RetryBudget()
        self._router = router
        self._admission = admission
        self._diagnosis = diagnosis
        self._access = access
        self._spellings = spellings
        self._ears = ears
        self._say = say
        self._waiting: dict[Ticket, tuple[int, int]] = {}
        self._handlers: dict[type, Callable[[int, Any, float], None]] = {
            hop.Place: self._place,
            hop.Began: self._began,
            hop.Done: self._done,
            hop.Abort: self._abort,
            hop.Anywhere: self._anywhere,
            hop.Failed: self._failed,
            hop.Declined: self._declined,
            hop.MayRetry: self._may_retry,
            hop.Claim: self._spell,
            hop.Adopt: self._adopt,
        }

    def join(self, worker: int) -> None:
        assert worker not in self.workers
        self.workers[worker] = Worker()

    def lost(self, worker: int, now: float) -> int:
        """The worker is gone and so is all that it held; how many claims that were."""
        claims = self.workers.pop(worker).claims
        for claim in claims.values():
            self._end(claim, now)
        self.poll(now)
        return len(claims)

    def take(self, worker: int, message: hop.FromWorker, now: float) -> None:
        handle = self._handlers.get(type(message))
        if handle is None:
            raise hop.BrokenHopError(f"not for the desk: {type(message).__name__}")
        handle(worker, message, now)

    def _declined(self, worker: int, declined: hop.Declined, now: float) -> None:
        replica = self._router.replica(declined.replica)
        if replica is not None:
            replica.load.decline(now + declined.wait_s)

    def _may_retry(self, worker: int, asking: hop.MayRetry, now: float) -> None:
        usable = self._router.usable(asking.model, frozenset(asking.exclude))
        self._say(worker, hop.Allowed(asking.q, bool(usable) and self.retries.spend()))

    def _spell(self, worker: int, asking: hop.Claim, now: float) -> None:
        self._say(worker, hop.Spelled(asking.q, self._spellings.first(asking.claims)))

    def poll(self, now: float, replica: Replica | None = None) -> None:
        """Load, health or the queue changed: place whoever may go now. `replica`: where only that
        one's load and queue did."""
        for ticket, outcome in self._admission.poll(now, replica):
            worker, n = self._waiting.pop(ticket)
            claims = self.workers[worker].claims
            asked = claims.pop(n)
            assert isinstance(asked, Asked)
            if isinstance(outcome, ProxyError):
                self._say(worker, hop.refused(n, outcome))
            else:
                self._hold(worker, n, outcome, asked)

    def _hold(self, worker: int, n: int, placement: Placement, asked: Asked) -> None:
        self.workers[worker].claims[n] = Holding(placement, asked.key, asked.step)
        self._ears.placed(placement)
        self._say(worker, self._placed(n, placement, asked, asked.pin))

    def _place(self, worker: int, asking: hop.Place, now: float) -> None:
        claims = self.workers[worker].claims
        assert asking.n not in claims, "a claim is asked for once"
        identity, chain = hop.identity_of(asking.identity), hop.unpack(asking.chain)
        exclude, pin = frozenset(asking.exclude), NO_PIN
        step, stake = self.workers[worker].left.pop(asking.after, None), None
        try:
            if not asking.after:
                self._enter(asking.key, now)
            pin, kept = self._pin(asking.previous, asking.tenant)
            identity = followed(identity, kept)
            exclude |= self._others(pin.pinned)
            if not asking.after:
                step = self._diagnosis.follow(identity, chain)
                stake = self._diagnosis.stake(identity, chain, step)
                if step is not None and step.cause is Cause.COMPACTION:
                    # Most of its blocks are of no more use: it may as well go where there is room.
                    self._router.affinity.forget(self._router.key_of(identity))
            ticket = Ticket(identity, chain, now, exclude, asking.priority)
            ticket.request_id = asking.request_id
            placement = self._admission.pass_by(ticket, now)
            if placement is None:
                self._admission.enter(ticket, now)
        except ProxyError as error:
            self._say(worker, hop.refused(asking.n, error))
            return
        asked = Asked(ticket, asking.key, step, stake, pin)
        if placement is not None:
            self._hold(worker, asking.n, placement, asked)
            return
        claims[asking.n] = asked
        self._waiting[ticket] = (worker, asking.n)
        self.poll(now, ticket.replica)

    def _anywhere(self, worker: int, asking: hop.Anywhere, now: float) -> None:
        claims = self.workers[worker].claims
        assert asking.n not in claims, "a claim is asked for once"
        try:
            if not asking.after:
                self._enter(asking.key, now)
            pin, _ = self._pin(asking.previous, asking.tenant)
            exclude = frozenset(asking.exclude) | self._others(pin.pinned)
            placement = self._router.place_anywhere(now, exclude, asking.model)
        except ProxyError as error:
            self._say(worker, hop.refused(asking.n, error))
            return
        claims[asking.n] = Holding(placement, asking.key, None)
        self._say(worker, self._placed(asking.n, placement, None, pin))

    def _enter(self, key: str, now: float) -> None:
        if key:
            self._access.count(key, now)
        self.retries.earn()

    def _pin(self, response: str, tenant: str) -> tuple[Pin, Kept | None]:
        """Where a conversation that goes on by the id of a response has to go. Raises ProxyError
        response_not_found."""
        if not response:
            return NO_PIN, None
        kept = self._router.responses.find(response, tenant)
        if kept is None:
            return Pin("unknown", ""), None
        usable = self._router.usable("", self._others(kept.replica))
        return Pin("held", kept.replica) if usable else Pin("gone", ""), kept

    def _others(self, replica: str) -> frozenset[str]:
        if not replica:
            return frozenset()
        return frozenset(each.id for each in self._router.replicas if each.id != replica)

    def _placed(self, n: int, placement: Placement, asked: Asked | None, pin: Pin) -> hop.Placed:
        placing = placement.placing
        step = asked.step if asked is not None else None
        broke = step.broke if step is not None else None
        tell = asked is not None and self._ears.wants(placement.replica)
        return hop.Placed(
            n,
            placement.replica.id,
            hop.match_fields(placing.match),
            placing.score,
            placing.prompt_tokens,
            placing.waited_s,
            None
            if step is None
            else (
                step.thread.number,
                step.thread.parent,
                step.thread.turns,
                None if broke is None else (broke.cause, broke.segment, broke.blocks),
            ),
            asked.stake if asked is not None else None,
            tell,
            placing.identity.session,
            pin.pin,
            pin.pinned,
        )

    def _adopt(self, worker: int, adopted: hop.Adopt, now: float) -> None:
        replica, claims = self._router.replica(adopted.replica), self.workers[worker].claims
        if replica is None:
            return
        assert adopted.n not in claims
        placing = Placing(
            hop.identity_of(adopted.identity),
            hop.unpack(adopted.chain),
            replica,
            Match.NONE,
            adopted.prompt_tokens,
            Score.FREE._replace(prefill_s=adopted.prefill_s),
        )
        placement = self._router.reserve(placing, now)
        # When it was sent is not known here: no time can be learned from it.
        placement.hold.alone = False
        if adopted.began:
            self._router.first_token(placement, now)
        claims[adopted.n] = Holding(placement, "", None, adopted=True)

    def _began(self, worker: int, began: hop.Began, now: float) -> None:
        holding = self.workers[worker].claims.get(began.n)
        if isinstance(holding, Holding):
            self._well(holding, began.well, now)
            self._router.first_token(holding.placement, now)
            self.poll(now, holding.placement.replica)

    def _done(self, worker: int, done: hop.Done, now: float) -> None:
        holding = self.workers[worker].claims.pop(done.n, None)
        if not isinstance(holding, Holding):
            return
        self._well(holding, done.well, now)
        placement = holding.placement
        usage = Usage(*done.usage) if done.usage is not None and not holding.adopted else None
        if holding.key and (usage is not None or done.streamed):
            self._access.used(holding.key, used_tokens(usage, placement), now)
        self._diagnosis.went(placement.placing.identity, holding.step, placement.replica.id)
        if done.response is not None:
            tenant, response = done.response
            session = placement.placing.identity.session or response
            self._router.responses.keep(response, Kept(tenant, placement.replica.id, session))
        outcome = self._router.finish(placement, usage, now, streamed=done.streamed)
        if outcome is not None:
            self._ears.learned(placement.replica, outcome)
        if done.prompt is not None and usage is not None:
            self._ears.told(Told(placement, usage.prompt_tokens, *done.prompt))
        self.poll(now, placement.replica)

    def _abort(self, worker: int, abort: hop.Abort, now: float) -> None:
        claim = self.workers[worker].claims.pop(abort.n, None)
        if claim is None:
            return
        if isinstance(claim, Holding):
            self._well(claim, abort.well, now)
        self.workers[worker].leave(abort.n, claim.step)
        self._end(claim, now)
        self.poll(now)

    def _end(self, claim: Asked | Holding, now: float) -> None:
        if isinstance(claim, Holding):
            if claim.key:
                self._access.used(claim.key, used_tokens(None, claim.placement), now)
            self._router.abort(claim.placement, now)
        else:
            del self._waiting[claim.ticket]
            self._admission.leave(claim.ticket)

    def _well(self, holding: Holding, well: bool, now: float) -> None:
        replica = holding.placement.replica
        if well and replica.see(Evidence.ANSWERED, now):
            self._ears.changed(replica)
            self.poll(now)

    def _failed(self, worker: int, failed: hop.Failed, now: float) -> None:
        replica = self._router.replica(failed.replica)
        if replica is None:
            return
        changed = replica.see(Evidence.FAILED, now)
        self._ears.doubt(replica)
        if changed:
            self._ears.changed(replica)
            self.poll(now)
