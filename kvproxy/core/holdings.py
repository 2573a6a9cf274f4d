"""How much of a prompt each replica holds, by tier: what engines announce where that is known and
trusted, what this proxy sent there for the rest.

Announcements are of token blocks; an anchor tells the token blocks of the beginning of a byte
chain. Up to the anchor they decide; beyond it, and where they are missing, history does. What
lies behind HBM is for LMCache's coordinator to say, where there is one.
"""

from array import array
from collections.abc import Sequence

from msgspec import Struct
from msgspec.structs import replace

from kvproxy.core.echo_rate import EchoRate
from kvproxy.core.event_source import Grown
from kvproxy.core.kv_events import Event
from kvproxy.core.loadable import Loadable, Told
from kvproxy.core.prefix_index import PrefixIndex
from kvproxy.core.rank_standing import RankStanding
from kvproxy.core.replica import Replica
from kvproxy.core.ruler import Ruler
from kvproxy.core.score import Match
from kvproxy.core.sent import NOTHING_HELD, Known, Prompt, in_hbm, in_tiers, whole_blocks
from kvproxy.core.silence import Silence
from kvproxy.core.token_chain import TokenChains
from kvproxy.core.trust import Change, Source, Trust, is_wrong
from kvproxy.core.turn_begins import OpenPrompts, Turned
from kvproxy.core.types import Chain, Tier


class Outcome(Struct, frozen=True, gc=False):
    """What a finished request taught: sources whose standing changed, and whether the replica's
    history was cleared because it seems to have restarted, or whether it owes us events, cached
    tokens, or figures of any kind."""

    changes: tuple[Change, ...] = ()
    restarted: bool = False
    silent: bool = False
    unreported: bool = False
    uncounted: bool = False


_NOTHING_NEW = Outcome()


class Holdings:
    """Joins history, announcements and the trust in both."""

    def __init__(
        self,
        ruler: Ruler,
        index: PrefixIndex,
        chains: TokenChains,
        loadable: Loadable | None = None,
    ) -> None:
        self._ruler = ruler
        self.index = index
        self.chains = chains
        self.loadable = Loadable(1) if loadable is None else loadable
        self.trust = Trust()
        self._naming: set[str] = set()
        self.standing = RankStanding()
        self.echo_rate = EchoRate()
        self._silence = Silence()
        # By its id: see core/silence.
        self.counted, self.uncounted = self._silence.counted, self._silence.uncounted
        self.uncounted_streams = self._silence.streams
        self._prompts = OpenPrompts()

    def prompt(self, model: str, chain: Chain) -> Prompt:
        """To look for it, as it is known now."""
        tokens = self._ruler.tokens_at(chain, len(chain.hashes), model)
        told, repeats = self.loadable.find(chain), self.echo_rate.found_again(model)
        return Prompt(model, chain, round(tokens), repeats, self._known(chain), told)

    def match(self, replica: Replica, prompt: Prompt) -> Match:
        """All sources are asked, also one that is not trusted: so it can win trust back."""
        sent = in_hbm if replica.dram is None else in_tiers
        match = sent(self._ruler, replica, prompt)
        if self.trust.distrusted and not self.trust.trusts(replica.id, Source.HISTORY):
            match = Match(0, 0, by_history=match.tokens)
        if prompt.known is not None and replica.kv_events:
            match = self._with_events(replica, prompt, match, prompt.known)
        told = prompt.told
        return match if told is None else self._with_told(replica, match, prompt.tokens, told)

    def _known(self, chain: Chain) -> Known | None:
        anchor = self.chains.anchor(chain)
        if anchor is None:
            return None
        blocks = anchor.at.chain(anchor.answer_end)
        return Known(anchor, blocks, [len(blocks)])

    def matches(self, replicas: Sequence[Replica], prompt: Prompt) -> list[Match]:
        """match() of each. Most replicas hold nothing of most prompts: nobody asks those."""
        if prompt.told is not None or self.trust.distrusted:
            return [self.match(replica, prompt) for replica in replicas]
        hashes, announced, ruler = prompt.chain.hashes, prompt.known is not None, self._ruler
        first = hashes[0] if hashes else None
        found = []
        for replica in replicas:
            if replica.dram is not None or (announced and replica.kv_events):
                match = self.match(replica, prompt)
            elif first in replica.hbm.beginnings:
                match = in_hbm(ruler, replica, prompt)
            else:
                match = NOTHING_HELD
            found.append(match)
        return found

    def _with_events(self, replica: Replica, prompt: Prompt, history: Match, known: Known) -> Match:
        """What the replica holds by its announcements, or by `history`."""
        events = self._by_events(replica, prompt, known)
        has_say = self._has_say(replica, events, history, known)
        # What waits there evicts before this prompt's turn, or has and it was not announced yet:
        # history has counted that already.
        busy = replica.load.waiting or self.chains.awaits(replica.id)
        has_say = has_say and not (busy and history.tokens < events.tokens)
        rules = has_say and self.trust.trusts(replica.id, Source.EVENTS)
        chosen = events if rules else history
        return Match(
            chosen.blocks,
            chosen.tokens,
            dram=chosen.dram,
            disk=chosen.disk,
            rank=events.rank,
            source=Source.EVENTS if rules else Source.HISTORY,
            by_events=events.tokens if has_say else None,
            by_history=history.by_history,
            echo=events.echo,
        )

    def opened(self, request_id: str, replica: Replica, chain: Chain, model: str) -> None:
        """The request goes to `replica` with its id as session."""
        if replica.kv_events and request_id and len(chain):
            if self.chains.opened(request_id, replica.id, chain):
                self._prompts.opened(request_id, chain, model)
            else:
                self._prompts.finished(request_id, 0, 1)

    def finished(self, request_id: str, replica: Replica, prompt_tokens: int) -> None:
        """It ended; its answer told how long the prompt was, or nothing did: 0."""
        self.chains.finished(request_id, prompt_tokens)
        if replica.kv_events:
            size = self.index.block_size(replica.id)
            self._turned(self._prompts.finished(request_id, prompt_tokens, size or 1))

    def answered(
        self, replica: Replica, model: str, match: Match, chain: Chain, reported: int
    ) -> Outcome:
        """The engine reported so many cached tokens where `match` was predicted."""
        self._silence.reported(replica.id)
        name, size, observe = replica.id, replica.block_size, self.trust.observe
        found = []
        if match.by_history is not None:
            found.append(observe(name, Source.HISTORY, match.by_history, reported, size))
        if match.by_events is not None:
            self._correct(replica, model, match, chain, reported)
            found.append(observe(name, Source.EVENTS, match.by_events, reported, size))
        if match.by_coordinator is not None:
            found.append(observe(name, Source.COORDINATOR, match.by_coordinator, reported, size))
        changes = tuple(filter(None, found))
        restarted = self.trust.restarted(replica.id, match.tokens, reported)
        if restarted:
            replica.lost_all()
        silent = replica.kv_events and self._silence.unannounced(replica.id)
        if not (changes or restarted or silent):
            return _NOTHING_NEW
        return Outcome(changes, restarted, silent)

    def unreported(self, replica: Replica, match: Match) -> Outcome | None:
        """The engine did not say how much was cached, where some should have been."""
        if match.tokens < replica.block_size:
            return None
        return Outcome(unreported=True) if self._silence.unreported(replica.id) else None

    def wants_tokens(self, replica: Replica) -> bool:
        """Whether its announcements cannot be tied to prompts otherwise: they name no requests, as
        those of SGLang and of vLLM before 0.30 do not."""
        announces = replica.kv_events and self.index.block_size(replica.id)
        return bool(announces) and replica.id not in self._naming

    def misses_anchor(self, replica: Replica, chain: Chain) -> bool:
        """Whether no turn of this conversation could be tied to announcements so far."""
        announces = replica.kv_events and self.index.block_size(replica.id)
        return bool(announces) and self.chains.anchor(chain) is None

    def anchors_by(self, replica: Replica) -> int:
        """Tokens of the blocks that a prompt it was sent may be anchored by; 0: of no use there."""
        return self.index.block_size(replica.id) if replica.kv_events else 0

    def tokenised(
        self, replica: Replica, chain: Chain, tokens: int, names: "array[int]", block_size: int
    ) -> None:
        """A prompt of so many `tokens` that `replica` was sent, by the names of its blocks."""
        if block_size == self.anchors_by(replica):
            self.chains.tokenised(chain, tokens, names, block_size)

    def apply(self, replica: str, rank: int, event: Event) -> None:
        """Raises KvEventError for an event that cannot be."""
        self.grew(replica, rank, self.index.apply(replica, rank, event))

    def grew(self, replica: str, rank: int, grown: Grown | None) -> None:
        """A rank announced something; `grown` is what a request made."""
        self._silence.announced(replica)
        if grown is not None:
            self._naming.add(replica)
            source = self.index.source(replica, rank)
            assert source is not None
            self.chains.grown(replica, grown, source.block_size, source.path)
            self._turned(self._prompts.grown(grown, source.block_size))

    def reset(self, replica: str, rank: int, *, complete: bool) -> None:
        """Forget what a rank announced; `complete` if all that it holds will be told again."""
        self.index.drop(replica, rank)
        self.standing.reset(replica, rank, complete=complete)

    def forget(self, replica: str) -> None:
        """The replica is gone; another one may come under its name."""
        self.index.drop(replica)
        self.standing.forget(replica)
        self._naming.discard(replica)
        self._silence.forget(replica)
        self.trust.forget(replica)

    def _turned(self, turned: Turned | None) -> None:
        if turned is not None:
            self._ruler.turned(turned)

    def _by_events(self, replica: Replica, prompt: Prompt, known: Known) -> Match:
        anchor, size = known.anchor, known.anchor.block_size
        held = self.index.look_up(replica.id, known.blocks, size, known.ends[0])
        if held.hbm < len(known.blocks):
            known.ends[0] = held.hbm
        anchored = anchor.at.length
        echo = held.blocks * size if held.blocks > anchored else 0
        if echo and not prompt.repeats:
            held = held.cut(anchored)
        tokens = whole_blocks(held.blocks * size, prompt.tokens, size)
        hbm = min(held.hbm * size, tokens)
        dram = min(held.dram * size, tokens - hbm)
        whole = min(anchored, held.blocks)
        byte_blocks = anchor.byte_blocks * whole // anchored if anchored else 0
        several = self.index.ranks(replica.id) > 1 and held.blocks > 0
        return Match(
            byte_blocks,
            tokens,
            dram=dram,
            disk=tokens - hbm - dram,
            rank=held.rank if several else None,
            echo=echo,
        )

    def _with_told(self, replica: Replica, match: Match, prompt_tokens: int, told: Told) -> Match:
        """Behind HBM the coordinator decides, unless announcements tell of more."""
        tiers = told.by_replica.get(replica.id, {})
        loadable = whole_blocks(sum(tiers.values()), prompt_tokens, replica.block_size)
        adds = loadable > match.hbm
        if not self.trust.trusts(replica.id, Source.COORDINATOR):
            return replace(match, by_coordinator=loadable) if adds else match
        if match.source == Source.EVENTS and match.tokens > loadable:
            return match
        behind = max(0, loadable - match.hbm)
        disk = min(behind, tiers.get(Tier.DISK, 0) + tiers.get(Tier.REMOTE, 0))
        whole = told.byte_blocks * loadable // max(1, told.prompt_tokens)
        return replace(
            match,
            blocks=max(match.blocks, whole),
            tokens=match.hbm + behind,
            dram=behind - disk,
            disk=disk,
            source=Source.COORDINATOR if adds or match.tokens > match.hbm else match.source,
            by_coordinator=loadable if adds else None,
        )

    def _has_say(self, replica: Replica, events: Match, history: Match, known: Known) -> bool:
        """Whether the announcements can tell: not where some were missed, nor where history knows
        of more of the prompt than the anchor covers."""
        if self.standing.any_behind(replica.id):
            return False
        if history.tokens <= events.tokens:
            return True
        covered = events.blocks == known.anchor.byte_blocks
        beyond = covered and history.blocks > known.anchor.byte_blocks
        return not beyond and not self.standing.any_partial(replica.id)

    def _correct(
        self, replica: Replica, model: str, match: Match, chain: Chain, reported: int
    ) -> None:
        """Learn at once from a report that differs."""
        assert match.by_events is not None
        size = replica.block_size
        if match.echo:
            self.echo_rate.saw(model, again=reported >= match.echo - size)
        if match.by_events > reported and is_wrong(match.by_events, reported, size):
            known = self._known(chain)
            if known is not None:
                # The engine computed them just now, so they are there, but only once.
                blocks = known.blocks[reported // known.anchor.block_size :]
                self.index.one_copy(replica.id, blocks)
