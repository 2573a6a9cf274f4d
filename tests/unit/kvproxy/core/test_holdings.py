from array import array

import pytest
from msgspec.structs import replace

from kvproxy.core.event_source import names_of
from kvproxy.core.holdings import Holdings
from kvproxy.core.kv_events import Cleared
from kvproxy.core.loadable import Loadable, Told
from kvproxy.core.prefix_index import PrefixIndex
from kvproxy.core.prefix_tree import PrefixTree
from kvproxy.core.replica import Replica
from kvproxy.core.ruler import Ruler
from kvproxy.core.score import Match
from kvproxy.core.token_chain import TokenChains
from kvproxy.core.types import Chain, Tier
from tests.support.makers import make_chain, make_replica
from tests.support.naive_index import removed, stored

SIZE = 16
TEXT = "x" * 640
CHAIN = make_chain(TEXT)
BLOCKS = 10


class World:
    """One replica that announced a prompt of ten blocks and two of its answer."""

    def __init__(self) -> None:
        self.ruler = Ruler(100)
        self.holdings = Holdings(self.ruler, PrefixIndex(2**30), TokenChains(2**20), Loadable(10))
        self.replica = make_replica("r")
        self.replica.kv_events = True
        self.sent("a", CHAIN)
        self.apply(stored(range(1, 11), size=SIZE, session="a"))
        self.apply(stored([11, 12], 10, size=SIZE, session="a"))
        self.holdings.chains.finished("a", BLOCKS * SIZE + 3)

    def apply(self, event: object) -> None:
        self.holdings.apply("r", 0, event)  # type: ignore[arg-type]

    def sent(self, request: str, chain: Chain) -> None:
        end, held = self.replica.hbm.pin(chain.hashes)
        ends = self.ruler.token_ends(chain, held, "m", end.end)
        self.replica.hbm.release(self.replica.hbm.extend(end, chain.hashes[held:], ends))
        self.holdings.opened(request, self.replica, chain, "m")

    def match(self, chain: Chain = CHAIN, replica: Replica | None = None) -> Match:
        prompt = self.holdings.prompt("m", chain)
        longer = replace(prompt, tokens=prompt.tokens + 100)
        return self.holdings.match(replica or self.replica, longer)


def test_announcements_decide_up_to_the_anchor() -> None:
    world = World()
    match = world.match(make_chain(TEXT, "more"))
    assert (match.tokens, match.source, match.rank) == (BLOCKS * SIZE, "events", None)
    world.apply(removed(12, 11, 10, 9))
    match = world.match(make_chain(TEXT, "more"))
    assert (match.tokens, match.source) == (8 * SIZE, "events")
    assert match.by_history is not None
    assert match.by_history > match.tokens
    world.apply(Cleared())
    assert world.match().tokens == 0


def test_tiers_are_told_apart() -> None:
    world = World()
    world.apply(stored(range(1, 9), tokens=[], size=0, tier=Tier.DRAM))
    world.apply(removed(*range(12, 4, -1)))
    match = world.match()
    assert (match.hbm, match.dram, match.disk) == (4 * SIZE, 4 * SIZE, 0)


def test_history_decides_beyond_the_anchor_and_without_one() -> None:
    world = World()
    longer = make_chain(TEXT, "y" * 640)
    world.sent("b", longer)
    match = world.match(longer)
    assert (match.source, match.by_events) == ("history", None)
    assert match.tokens > BLOCKS * SIZE
    other = make_chain("z" * 640)
    world.sent("c", other)
    assert world.match(other).source == "history"
    assert world.match(other).tokens > 0


def test_a_replica_without_events_is_not_asked_for_any() -> None:
    world = World()
    quiet = make_replica("quiet")
    match = world.match(replica=quiet)
    assert (match.tokens, match.by_events, match.source) == (0, None, "history")


def test_missed_announcements_leave_it_to_history() -> None:
    world = World()
    world.holdings.reset("r", 0, complete=False)
    assert world.match().source == "history"
    world.holdings.reset("r", 0, complete=True)
    assert (world.match().source, world.match().tokens) == ("events", 0)


def test_a_liar_is_not_believed_until_it_is_right_again() -> None:
    world = World()
    lie = Match(1, 160, by_events=160, by_history=0)
    for _ in range(20):
        outcome = world.holdings.answered(world.replica, "m", lie, CHAIN, 0)
    assert not world.holdings.trust.trusts("r", "events")  # type: ignore[arg-type]
    assert outcome.changes == ()
    assert world.match().source == "history"
    assert world.match().by_events == BLOCKS * SIZE
    right = Match(1, 160, by_events=160)
    changes = [
        change
        for _ in range(20)
        for change in world.holdings.answered(world.replica, "m", right, CHAIN, 160).changes
    ]
    assert [change.trusted for change in changes] == [True]
    assert world.match().source == "events"


def test_a_report_far_below_takes_the_copies_away() -> None:
    world = World()
    world.apply(stored([10], 9, size=SIZE))
    world.holdings.answered(world.replica, "m", world.match(), CHAIN, 0)
    world.apply(removed(12, 11, 10))
    assert world.match().tokens == 9 * SIZE


def test_answers_that_come_back_as_generated_are_learned() -> None:
    world = World()
    longer = make_chain(TEXT, "more")
    assert world.match(longer).tokens == BLOCKS * SIZE
    for _ in range(5):
        match = world.match(longer)
        assert match.echo == 12 * SIZE
        world.holdings.answered(world.replica, "m", match, longer, 12 * SIZE)
    assert world.match(longer).tokens == 12 * SIZE


@pytest.mark.parametrize("shared", [True, False])
def test_a_restart_clears_history(shared: bool) -> None:
    world = World()
    world.replica.kv_events = False
    dram = world.replica.dram = PrefixTree(1000)
    world.replica.dram_shared = shared
    dram.keep(1, 10)
    long = Match(1, 5000, by_history=5000)
    outcomes = [world.holdings.answered(world.replica, "m", long, CHAIN, 0) for _ in range(3)]
    assert [outcome.restarted for outcome in outcomes] == [False, False, True]
    assert world.replica.hbm.size == 0
    assert dram.size == (10 if shared else 0), "nothing of it was found either"


def test_silence_and_missing_figures_are_said_once() -> None:
    world = World()
    match = Match(1, 160, by_history=160)
    silent = [
        world.holdings.answered(world.replica, "m", match, CHAIN, 160).silent for _ in range(60)
    ]
    assert silent.count(True) == 1
    told = [world.holdings.unreported(world.replica, match) for _ in range(60)]
    assert sum(outcome is not None for outcome in told) == 1
    assert world.holdings.unreported(world.replica, Match(0, 0)) is None


def test_the_rank_is_named_when_there_are_several() -> None:
    world = World()
    world.holdings.apply("r", 1, stored(range(1, 4), size=SIZE))
    assert world.match().rank == 0
    world.apply(Cleared())
    assert world.match().rank == 1


def told(world: World, **tiers: int) -> None:
    held = {Tier(name): tokens for name, tokens in tiers.items()}
    told = Told(len(CHAIN), BLOCKS * SIZE + 3, {"r": held})
    world.holdings.loadable.put(CHAIN.end, told)


def test_behind_hbm_the_coordinator_decides() -> None:
    world = World()
    more = make_chain(TEXT, "more")
    told(world, dram=96, disk=32)
    assert world.match(more).source == "events", "HBM holds more than that"
    assert world.match(more).by_coordinator is None
    world.apply(removed(12, 11, *range(10, 3, -1)))
    match = world.match(more)
    assert (match.tokens, match.hbm, match.dram, match.disk) == (8 * SIZE, 3 * SIZE, 48, 32)
    assert (match.source, match.by_coordinator) == ("coordinator", 8 * SIZE)
    assert match.blocks >= len(CHAIN) * 7 // 10
    assert world.match(more, make_replica("another")).source == "history", "it loads nothing"


def test_announced_dram_counts_where_it_is_more() -> None:
    world = World()
    world.apply(stored(range(1, 11), tokens=(), size=0, tier=Tier.DRAM))
    world.apply(Cleared())
    told(world, dram=64)
    match = world.match()
    assert (match.source, match.dram) == ("events", BLOCKS * SIZE)


def test_a_coordinator_that_lies_is_heard_but_not_believed() -> None:
    world = World()
    world.apply(Cleared())
    told(world, dram=9 * SIZE)
    changes = []
    for _ in range(8):
        match = world.match()
        assert match.by_coordinator == 9 * SIZE
        changes += world.holdings.answered(world.replica, "m", match, CHAIN, 0).changes
    # History is wrong about the cleared HBM, too.
    distrusted = {change.source for change in changes if not change.trusted}
    assert distrusted == {"coordinator", "history"}
    match = world.match()
    assert (match.tokens, match.by_coordinator) == (0, 9 * SIZE)
    assert match.source != "coordinator"


def test_tokens_are_wanted_of_engines_that_name_no_requests() -> None:
    world = World()
    assert not world.holdings.wants_tokens(world.replica), "it names them"
    other = make_replica("other")
    assert not world.holdings.wants_tokens(other), "it announces nothing"
    other.kv_events = True
    tokens = array("I", range(4 * SIZE))
    world.holdings.apply("other", 0, stored([5, 6, 7], tokens=tokens[: 3 * SIZE], size=SIZE))
    assert world.holdings.wants_tokens(other)
    chain = make_chain("y" * 640)
    assert world.holdings.anchors_by(other) == SIZE
    names = names_of(tokens, SIZE)
    world.holdings.tokenised(other, chain, len(tokens), names, 2 * SIZE)
    assert world.match(make_chain("y" * 640, "more"), other).source == "history"
    world.holdings.tokenised(other, chain, len(tokens), names, SIZE)
    match = world.match(make_chain("y" * 640, "more"), other)
    assert (match.tokens, match.source) == (3 * SIZE, "events")
