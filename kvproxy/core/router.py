"""The router's state and its few transitions. No method awaits: each is one atomic step.

look_up and score read; place reserves; first_token, finish and abort settle what place reserved.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from operator import attrgetter

from kvproxy.core.affinity import Affinity, Home, SessionKey
from kvproxy.core.disagg.choice import Choice
from kvproxy.core.disagg.plan import Disagg
from kvproxy.core.eligible import eligible, usable
from kvproxy.core.held import HeldTokens
from kvproxy.core.holdings import Holdings, Outcome
from kvproxy.core.kept_answers import answer_room, keep, whole
from kvproxy.core.kept_prompts import pin_prompt, write_through
from kvproxy.core.lessons import Teach, learn, unsaid
from kvproxy.core.life_cycle import Health
from kvproxy.core.pins import Pins
from kvproxy.core.placement import Decided, Lookup, Placement, Placing
from kvproxy.core.policies import POLICIES, PolicyName, View
from kvproxy.core.pools import Pools
from kvproxy.core.prefix_index import PrefixIndex
from kvproxy.core.presumed_rates import presume_rates
from kvproxy.core.replica import Replica, Role
from kvproxy.core.response_homes import ResponseHomes
from kvproxy.core.returns import Returns
from kvproxy.core.ruler import Ruler
from kvproxy.core.score import TIE_S, Ahead, Asked, Match, Score, Weights, cheapest, score
from kvproxy.core.token_chain import TokenChains
from kvproxy.core.types import Chain, Identity, Usage
from kvproxy.core.working_set import WorkingSet

__all__ = ["Lookup", "Placement", "Placing", "Router"]

# KV used within this time counts as living on its replica, when new conversations are spread.
_LIVE_S = 900.0

_NOTHING: Mapping[str, int] = {}
_NOBODY_WAITS: Mapping[str, Ahead] = {}


class Router:
    def __init__(
        self,
        replicas: Sequence[Replica],
        policy: PolicyName,
        *,
        affinity: Affinity,
        ruler: Ruler,
        weights: Weights,
        holdings: Holdings | None = None,
        seed: int = 0,
        key_of: Callable[[Identity], SessionKey] = attrgetter("key"),
    ) -> None:
        self.replicas = list(replicas)
        self._by_id = {replica.id: replica for replica in replicas}
        self.policy = policy
        self.pools = Pools(lambda: self.replicas)
        self.affinity = affinity
        self.ruler = ruler
        self.holdings = holdings or Holdings(ruler, PrefixIndex(2**26), TokenChains(2**24))
        self.working_set = WorkingSet(affinity.max_sessions, living_s=_LIVE_S)
        self.returns = Returns()
        self.held = HeldTokens()
        self.disagg: Disagg | None = None
        self.key_of = key_of
        self.teach: Teach | None = None
        self.responses = ResponseHomes(affinity.max_sessions)
        self.pins = Pins()
        self._weights = weights
        self._seed = seed
        self._sequence = 0

    def look_up(
        self, identity: Identity, chain: Chain, now: float, exclude: frozenset[str] = frozenset()
    ) -> Lookup:
        """Raises ProxyError no_replica / model_not_found when nothing is eligible."""
        candidates = self._eligible(identity.model, exclude)
        if self.pins:
            candidates = self.pins.narrow(identity.session, self.key_of(identity), candidates)
        prompt = self.holdings.prompt(identity.model, chain)
        matches = self.holdings.matches(candidates, prompt)
        return Lookup(candidates, matches, prompt, self._home(identity, now))

    def asked(
        self, lookup: Lookup, now: float, lines: Mapping[str, Ahead] = _NOBODY_WAITS
    ) -> Asked:
        """`lines`: see Asked."""
        home = lookup.home.replica if lookup.home else None
        if home is not None and self._by_id.get(home) not in lookup.candidates:
            home = None
        # Only a new conversation asks for it.
        committed = self.working_set.by_replica(now) if home is None else _NOTHING
        chance = self.returns.chance
        return Asked(lookup.prompt.tokens, home, self._weights, now, chance, committed, lines)

    def choose(
        self, identity: Identity, chain: Chain, lookup: Lookup, asked: Asked
    ) -> tuple[int, Score]:
        """Index of the candidate that the policy picks, and what it costs. Reserves nothing."""
        view = View(
            lookup.candidates,
            lookup.matches,
            partial(cheapest, asked, lookup.candidates, lookup.matches),
            self.affinity.sessions,
            lookup.home,
            partial(session_key, identity, chain),
            self._sequence,
            self._seed,
            partial(self._near, identity, asked.now),
        )
        self._sequence += 1
        index = POLICIES[self.policy_of(identity.model)](view)
        return index, score(asked, lookup.candidates[index], lookup.matches[index])

    def at_home(
        self,
        identity: Identity,
        chain: Chain,
        now: float,
        exclude: frozenset[str] = frozenset(),
        lines: Mapping[str, Ahead] = _NOBODY_WAITS,
    ) -> Decided | None:
        """The turn where its conversation lives, if it costs less there than moving alone would:
        then choose() would come to the same, whatever the others hold. None where it may not."""
        home, model = self._home(identity, now), identity.model
        replica = self._by_id.get(home.replica) if home is not None else None
        if (
            replica is None
            or replica.life.health is not Health.READY
            or not replica.serves(model)
            or replica.id in exclude
            or self.pins
            or self.disagg is not None
            or self.policy_of(model) is not PolicyName.SECONDS
        ):
            return None
        prompt, weights = self.holdings.prompt(model, chain), self._weights
        match, tokens = self.holdings.match(replica, prompt), prompt.tokens
        asked = Asked(tokens, replica.id, weights, now, self.returns.chance, _NOTHING, lines)
        cost = score(asked, replica, match)
        if cost.total_s + TIE_S >= weights.move_margin_s:
            return None
        self._sequence += 1
        return Decided(replica, match, tokens, cost)

    def decide(
        self, identity: Identity, chain: Chain, now: float, exclude: frozenset[str] = frozenset()
    ) -> Decided:
        """Where a turn that is answered where it is computed would go, if nobody waited. Reserves
        nothing; raises as look_up does."""
        decided = self.at_home(identity, chain, now, exclude)
        if decided is not None:
            return decided
        lookup = self.look_up(identity, chain, now, exclude)
        index, cost = self.choose(identity, chain, lookup, self.asked(lookup, now))
        return Decided(lookup.candidates[index], lookup.matches[index], lookup.prompt.tokens, cost)

    def place(
        self, identity: Identity, chain: Chain, now: float, exclude: frozenset[str] = frozenset()
    ) -> Placement:
        """Decide and reserve at once, without waiting."""
        return self.reserve(
            Placing(identity, chain, *self.decide(identity, chain, now, exclude)), now
        )

    def match(self, replica: Replica, identity: Identity, chain: Chain) -> tuple[Match, int]:
        """What `replica` holds of the prompt now, and the prompt's estimated tokens."""
        prompt = self.holdings.prompt(identity.model, chain)
        return self.holdings.match(replica, prompt), prompt.tokens

    def reserve(self, placing: Placing, now: float) -> Placement:
        """Load, cache model and affinity change together; finish or abort settles it."""
        identity, chain, replica = placing.identity, placing.chain, placing.replica
        tokens = placing.prompt_tokens
        hold = replica.load.reserve(replica.id, placing.score.prefill_s, now)
        replica.make_room()
        echo_rate = self.holdings.echo_rate
        end, answer = pin_prompt(self.ruler, replica, identity.model, chain, echo_rate)
        self.held.add(tokens, now)
        replica.held_tokens += tokens
        if replica.dram is not None:
            write_through(self.ruler, replica.dram, identity.model, chain, now, echo_rate=echo_rate)
        if identity.session:
            key, retention_s = self.key_of(identity), identity.retention_s
            before = self.bind(key, replica.id, tokens, now, retention_s)
            if before is None:
                self.returns.began(retention_s)
            else:
                self.returns.returned(now - before.last_use, before.retention_s)
        if replica.kv_events:
            self.holdings.opened(placing.request_id, replica, chain, identity.model)
        prefill = None
        if placing.remote is not None and (leg := placing.prefill_leg()) is not None:
            prefill = self.reserve(leg, now)
        policy = self.policy_of(identity.model)
        return Placement(placing, replica, policy, hold, end, now, prefill, answer)

    def elsewhere(
        self, identity: Identity, lookup: Lookup, asked: Asked, whole: Choice
    ) -> Choice | None:
        """Where the prompt had better be computed or fetched elsewhere than it is answered; None
        where `whole`, the best plain placement, is as good or nothing can be moved."""
        disagg = self.disagg
        if disagg is None or self.policy_of(identity.model) is not PolicyName.SECONDS:
            return None
        there = self.usable(identity.model)
        able = [r for r in there if r.peer is not None and r.role is not Role.DECODE]
        held = self.holdings.matches(able, lookup.prompt)
        prefillers = list(zip(able, held, strict=True))
        choice = disagg.choose(asked, lookup.candidates, lookup.matches, prefillers, whole)
        return choice if choice.remote is not None else None

    def bind(
        self, key: SessionKey, replica: str, tokens: int, now: float, retention_s: float = 0.0
    ) -> Home | None:
        """The conversation's latest turn went to `replica`, through whichever proxy; where it lived
        so far."""
        self.working_set.touch(key, replica, tokens, now)
        return self.affinity.bind(key, replica, tokens, now, retention_s)

    def place_anywhere(
        self, now: float, exclude: frozenset[str] = frozenset(), model: str = ""
    ) -> Placement:
        """A replica for a request that is no prompt: fewest in flight, in turn among equals. One
        that serves `model`, if any does: whether that matters here, the engine knows."""
        known = any(replica.serves(model) for replica in self.replicas)
        candidates = self._eligible(model if known else "", exclude)
        least = min(replica.load.in_flight for replica in candidates)
        idle = [replica for replica in candidates if replica.load.in_flight == least]
        replica = idle[self._sequence % len(idle)]
        self._sequence += 1
        nobody, nothing = Identity("", "", ""), Chain()
        placing = Placing(nobody, nothing, replica, Match(0, 0), 0, Score.FREE)
        hold = replica.load.reserve(replica.id, 0.0, now)
        return Placement(placing, replica, self.policy, hold, replica.hbm.pin(())[0], now)

    def add(self, replica: Replica) -> None:
        assert replica.id not in self._by_id
        self.replicas.append(replica)
        self._by_id[replica.id] = replica

    def remove(self, replica: Replica) -> None:
        """Requests under way there still settle with it; nobody else knows it any more."""
        self.replicas.remove(replica)
        del self._by_id[replica.id]
        self.affinity.forget_replica(replica.id)
        self.working_set.forget_replica(replica.id)
        self.pins.forget_replica(replica.id)
        self.holdings.forget(replica.id)
        replica.gone()

    def replica(self, name: str) -> Replica | None:
        """None if there is none of that id any more."""
        return self._by_id.get(name)

    def policy_of(self, model: str) -> PolicyName:
        return self.pools.policies.get(model, self.policy)

    def ready(self) -> list[Replica]:
        return [replica for replica in self.replicas if replica.health is Health.READY]

    def usable(self, model: str = "", exclude: frozenset[str] = frozenset()) -> list[Replica]:
        return usable(self.replicas, model, exclude)

    def _eligible(self, model: str, exclude: frozenset[str]) -> list[Replica]:
        found = eligible(self.replicas, model, exclude)
        if self.disagg is None:
            return found
        # Who only prefills answers when nobody else is left: better than no answer.
        return [replica for replica in found if replica.role is not Role.PREFILL] or found

    def first_token(self, placement: Placement, now: float) -> None:
        placement.replica.load.first_token(placement.hold, now)

    def finish(
        self, placement: Placement, usage: Usage | None, now: float, *, streamed: bool = False
    ) -> Outcome | None:
        """The answer ended, a good one if it `streamed`; `usage` is None where the engine did not
        say. Returns what came of the prediction, if that can be told."""
        placing, replica, holdings = placement.placing, placement.replica, self.holdings
        if usage is None:
            unsaid(placement, placing.prompt_tokens, now, streamed=streamed)
            self._settle(placement, None, now)
            holdings.finished(placing.request_id, replica, 0)
            known = self._by_id.get(replica.id) is replica
            if streamed and known and holdings.uncounted(replica.id):
                return Outcome(uncounted=True)
            return None
        if usage.cached_tokens is None:
            unsaid(placement, usage.prompt_tokens, now, streamed=streamed)
        learn(self.ruler, holdings.echo_rate, placement, usage, self.teach)
        if placing.chain.hashes:
            replica.hbm.correct(placement.end, whole(usage.prompt_tokens, replica.block_size))
        self._settle(placement, usage, now)
        holdings.finished(placing.request_id, replica, usage.prompt_tokens)
        if holdings.uncounted_streams:
            holdings.counted(replica.id)
        if placing.remote is not None or self._by_id.get(replica.id) is not replica:
            # What was fetched is reported as cached too: it says nothing of what was held. And of
            # a replica that was removed meanwhile nothing is kept.
            return None
        reported, match = usage.cached_tokens, placing.match
        if reported is None:
            return holdings.unreported(replica, match)
        return holdings.answered(replica, placing.identity.model, match, placing.chain, reported)

    def abort(self, placement: Placement, now: float) -> None:
        """The request ended early, on whichever side. What was prefilled stays cached."""
        if placement.prefill is not None and not placement.prefill.hold.released:
            # It was given up before its first leg was sent: nobody else knows of that claim.
            self.abort(placement.prefill, now)
        self.holdings.finished(placement.placing.request_id, placement.replica, 0)
        self._settle(placement, None, now)

    def _settle(self, placement: Placement, usage: Usage | None, now: float) -> None:
        placing, replica = placement.placing, placement.replica
        replica.load.release(placement.hold, now)
        replica.make_room()
        self.held.add(-placing.prompt_tokens, now)
        replica.held_tokens -= placing.prompt_tokens
        hashes, retention_s = placing.chain.hashes, placing.identity.retention_s
        if usage is not None and hashes:
            keep(replica, hashes[-1], usage, now, retention_s)
            replica.answered(answer_room(usage, replica.block_size))
        replica.hbm.release(placement.end, now, retention_s)
        if replica.rate.news:
            replica.rate.news = False
            presume_rates(self.replicas)

    def _near(self, identity: Identity, now: float) -> Home | None:
        elder = identity.elder
        return self._home(elder, now) if elder is not None else None

    def _home(self, identity: Identity, now: float) -> Home | None:
        return self.affinity.home(self.key_of(identity), now) if identity.session else None


def session_key(identity: Identity, chain: Chain) -> bytes:
    """What rendezvous hashes: the session, or where it has none the beginning of its prompt."""
    if identity.session:
        return "\0".join(identity.key).encode()
    return chain.end.to_bytes(8, "big")
