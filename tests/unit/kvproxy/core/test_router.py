"""The router's transitions one by one; random lives are in tests/property."""

from collections import Counter

import pytest
from msgspec.structs import replace

from kvproxy.core.errors import ProxyError
from kvproxy.core.life_cycle import Health
from kvproxy.core.line import Line, Ticket
from kvproxy.core.policies import PolicyName
from kvproxy.core.router import Router
from kvproxy.core.score import Score, Weights, score
from kvproxy.core.types import Chain, Identity, Usage
from tests.support.makers import make_chain, make_replica, make_router, numbered_chain

TURN = "x" * 64
SESSION = Identity("t", "m", "s1")


def finish(router: Router, identity: Identity, chain: Chain, now: float, cached: int = 0) -> str:
    """One request from start to end, with usage of four bytes a token."""
    placement = router.place(identity, chain, now)
    router.first_token(placement, now + 0.1)
    prompt = chain.text_bytes[-1] // 4
    router.finish(placement, Usage(prompt, 10, cached), now + 0.2)
    return placement.replica.id


def session(name: str) -> Identity:
    return Identity("t", "m", name)


def test_no_ready_replica() -> None:
    router = make_router([make_replica(health=Health.PAUSED), make_replica("r1")])
    with pytest.raises(ProxyError) as raised:
        router.place(SESSION, make_chain(TURN), 0.0, frozenset({"r1"}))
    assert (raised.value.code, raised.value.retry_after_s) == ("no_replica", 1.0)
    with pytest.raises(ProxyError, match="no replica of 2"):
        router.place_anywhere(0.0, frozenset({"r1"}))


@pytest.mark.parametrize("health", [Health.STARTING, Health.PAUSED, Health.DRAINING])
def test_only_ready_replicas_are_placed_on(health: Health) -> None:
    router = make_router([make_replica("r0", health=health), make_replica("r1")])
    for policy in PolicyName:
        router.policy = policy
        assert router.place(SESSION, make_chain(TURN), 0.0).replica.id == "r1"
    assert [replica.id for replica in router.ready()] == ["r1"]


def test_only_replicas_that_serve_the_model() -> None:
    router = make_router([make_replica("r0", models=("m",)), make_replica("r1", models=("n",))])
    for policy in PolicyName:
        router.policy = policy
        placement = router.place(Identity("", "n", ""), make_chain(TURN), 0.0)
        assert placement.replica.id == "r1"
    with pytest.raises(ProxyError) as raised:
        router.place(Identity("", "o", ""), make_chain(TURN), 0.0)
    assert (raised.value.code, raised.value.status) == ("model_not_found", 404)
    assert raised.value.param == "model"


def test_a_model_whose_replicas_are_away_does_exist() -> None:
    router = make_router([make_replica("r0", models=("m",)), make_replica("r1", models=("n",))])
    with pytest.raises(ProxyError) as raised:
        router.place(SESSION, make_chain(TURN), 0.0, frozenset({"r0"}))
    assert (raised.value.code, raised.value.retry_after_s) == ("no_replica", 1.0)
    router.replicas[0].life.health = Health.PAUSED
    with pytest.raises(ProxyError, match="serves `m`"):
        router.place(SESSION, make_chain(TURN), 0.0)


def test_what_was_placed_is_found_again() -> None:
    router = make_router(1)
    chain = make_chain(*[TURN] * 100)
    finish(router, SESSION, chain, 0.0)
    lookup = router.look_up(SESSION, chain, 1.0)
    assert lookup.prompt.tokens == 1600
    (match,) = lookup.matches
    assert match.blocks == 100
    # The last token is always computed, and hits are whole engine blocks.
    assert match.tokens == 1584
    assert lookup.home is not None
    assert lookup.home.replica == "r0"


def test_an_aborted_prefill_stays_cached() -> None:
    router = make_router(1)
    chain = make_chain(*[TURN] * 10)
    router.abort(router.place(SESSION, chain, 0.0), 0.5)
    assert router.look_up(SESSION, chain, 1.0).matches[0].blocks == 10


def test_answers_take_room() -> None:
    router = make_router([make_replica(hbm_tokens=1000)])
    chain = make_chain(*[TURN] * 10)
    placement = router.place(SESSION, chain, 0.0)
    router.finish(placement, Usage(160, 500, 0), 1.0)
    replica = router.replicas[0]
    # 160 tokens are ten whole blocks, however many were expected; 500 more fill 31.
    assert replica.hbm.size == max(160, placement.end.ends[-2]) + 31 * 16
    assert replica.hbm.match(chain.hashes) == 10


def test_a_block_that_is_not_full_is_not_kept() -> None:
    router = make_router([make_replica(hbm_tokens=1000)])
    placement = router.place(SESSION, make_chain(*[TURN] * 10), 0.0)
    router.finish(placement, Usage(205, 1, 0), 1.0)
    assert router.replicas[0].hbm.size == 192


def test_an_answer_that_was_found_again_is_predicted_from_then_on() -> None:
    """By usage figures alone, of a conversation that grows by 300 tokens a turn."""
    router = make_router([make_replica(hbm_tokens=100_000)])
    parts, predicted = [TURN] * 10, []
    for turn in range(4):
        chain, prompt = make_chain(*parts), 160 + 300 * turn
        placement = router.place(SESSION, chain, float(turn))
        predicted.append(placement.predicted_cached_tokens)
        # The prompt before and 99 tokens of its answer, in whole blocks.
        cached = (prompt - 300 + 99) // 16 * 16 if turn else 0
        router.finish(placement, Usage(prompt, 100, cached), turn + 0.5)
        parts += [b"said", b"x" * 1200]
    assert predicted == [0, 160, (460 + 99) // 16 * 16, (760 + 99) // 16 * 16]
    # Each answer but the last is part of the prompt that repeats it.
    assert router.replicas[0].hbm.size == (1060 + 99) // 16 * 16


def test_requests_in_flight_are_a_queue() -> None:
    router = make_router(1)
    placement = router.place(SESSION, make_chain(*[TURN] * 1000), 0.0)
    load = router.replicas[0].load
    prefill_s = placement.placing.score.prefill_s
    assert load.queue_s(0.0) == pytest.approx(prefill_s)
    lookup = router.look_up(session("s2"), make_chain("y" * 64), 0.0)
    (replica,), (match,) = lookup.candidates, lookup.matches
    alone = score(router.asked(lookup, 0.0), replica, match)
    assert alone.queue_s == pytest.approx(prefill_s)
    line = Line()
    line.join(Ticket(SESSION, make_chain(TURN), 0.0, score=Score.FREE._replace(prefill_s=2.5)))
    long = replace(router.asked(lookup, 0.0, {"r0": line}), prompt_tokens=100_000)
    behind = score(long, replica, match)
    assert behind.queue_s == pytest.approx(prefill_s + 2.5)
    router.first_token(placement, 1.0)
    assert load.queue_s(1.0) == 0.0
    assert load.in_flight == 1
    router.abort(placement, 2.0)
    assert load.in_flight == 0


def test_settling_twice_is_a_bug() -> None:
    router = make_router(1)
    placement = router.place(SESSION, make_chain(TURN), 0.0)
    router.abort(placement, 1.0)
    with pytest.raises(AssertionError, match="once"):
        router.finish(placement, None, 2.0)


def test_a_session_stays_unless_moving_pays() -> None:
    router = make_router(2, weights=Weights(move_margin_s=1.0))
    chain = make_chain(*[TURN] * 10)
    home = finish(router, SESSION, chain, 0.0)
    assert finish(router, SESSION, chain, 1.0, cached=144) == home
    (busy,) = [replica for replica in router.replicas if replica.id == home]
    hold = busy.load.reserve(busy.id, 0.9, 2.0)
    assert finish(router, SESSION, chain, 2.0, cached=144) == home
    busy.load.release(hold, 3.0)
    busy.load.reserve(busy.id, 1.5, 3.0)
    assert finish(router, SESSION, chain, 3.0) != home


def test_who_comes_back_under_an_old_name_owes_nothing_for_what_lived_there() -> None:
    router = make_router(2)
    for number in range(20):
        placement = router.place(Identity("t", "m", f"s{number}"), numbered_chain(400), 1.0)
        router.finish(placement, Usage(20_000, 5, 0), 2.0)
    [one, _] = router.replicas
    assert router.working_set.by_replica(3.0)[one.id] > 0
    router.remove(one)
    router.add(make_replica(one.id, url="http://elsewhere"))
    placed = [
        router.place(Identity("t", "m", f"new {number}"), make_chain(f"{number}" * 999), 4.0)
        for number in range(3)
    ]
    assert placed[0].replica.url == "http://elsewhere"
    assert placed[0].placing.score.crowding_s == 0.0


def test_a_home_that_is_gone_costs_no_move() -> None:
    router = make_router(3)
    home = finish(router, SESSION, make_chain(TURN), 0.0)
    lookup = router.look_up(SESSION, make_chain(TURN), 1.0, frozenset({home}))
    asked = router.asked(lookup, 1.0)
    pairs = zip(lookup.candidates, lookup.matches, strict=True)
    assert [score(asked, replica, match).move_s for replica, match in pairs] == [0.0, 0.0]


def test_no_session_binds_nothing() -> None:
    router = make_router(2)
    finish(router, Identity("", "m", ""), make_chain(TURN), 0.0)
    assert len(router.affinity) == 0


def test_requests_that_are_no_prompt_go_where_least_is_in_flight() -> None:
    router = make_router(3)
    placements = [router.place_anywhere(0.0) for _ in range(6)]
    assert sorted(p.replica.id for p in placements) == ["r0", "r0", "r1", "r1", "r2", "r2"]
    for placement in placements:
        router.finish(placement, None, 1.0)
    assert [replica.load.in_flight for replica in router.replicas] == [0, 0, 0]


def burst(policy: PolicyName) -> list[str]:
    """Replicas of 40 new sessions that share a prefix which one replica holds."""
    router = make_router(4, policy)
    warm = make_chain(*[TURN] * 50)
    finish(router, session("first"), warm, 0.0)
    chosen = []
    for index in range(40):
        chain = make_chain(*[TURN] * 50, *[f"{index:064}"] * 400)
        chosen.append(router.place(session(f"s{index}"), chain, 1.0).replica.id)
    return chosen


def test_the_longest_prefix_herds_and_seconds_does_not() -> None:
    assert len(set(burst(PolicyName.LONGEST_PREFIX))) == 1
    spread = burst(PolicyName.SECONDS)
    counts = [spread.count(name) for name in sorted(set(spread))]
    assert len(counts) == 4
    assert max(counts) - min(counts) <= 3


def test_rates_are_learned_from_clean_first_tokens() -> None:
    router = make_router(1)
    chain = make_chain(*[TURN] * 200)
    placement = router.place(SESSION, chain, 0.0)
    router.first_token(placement, 2.0)
    router.finish(placement, Usage(3200, 5, 0), 3.0)
    assert router.replicas[0].rate.s_per_tok == pytest.approx(2.0 / 3200)


def test_reported_hits_become_anchors_in_the_middle() -> None:
    """Where the engine's hit ends near the predicted one, its exact figure is worth keeping."""
    router = make_router(1)
    shared = [TURN] * 40
    finish(router, SESSION, make_chain(*shared, "a" * 64), 0.0)
    chain = make_chain(*shared, "b" * 64)
    placement = router.place(SESSION, chain, 1.0)
    near = placement.predicted_cached_tokens - 16
    router.finish(placement, Usage(656, 5, near), 2.0)
    assert router.ruler.tokens_at(chain, 40, "m") == near + 8


@pytest.mark.parametrize(("parting", "learned"), [(True, True), (False, False)])
def test_a_hit_far_off_is_an_anchor_where_chains_part_alone(parting: bool, learned: bool) -> None:
    """Where one just ends, the engine may have evicted what lay beyond."""
    router = make_router(1)
    shared = [TURN] * 40
    finish(router, SESSION, make_chain(*shared, *["a" * 64] * parting), 0.0)
    chain = make_chain(*shared, "b" * 64)
    placement = router.place(SESSION, chain, 1.0)
    far = placement.predicted_cached_tokens - 96
    router.finish(placement, Usage(656, 5, far), 2.0)
    assert (router.ruler.tokens_at(chain, 40, "m") == far + 8) == learned


def test_engines_without_usage_teach_no_counts_and_a_guessed_rate() -> None:
    router = make_router(1)
    chain = make_chain(*[TURN] * 200)
    placement = router.place(SESSION, chain, 0.0)
    router.first_token(placement, 2.0)
    before = router.ruler.tokens_at(chain, len(chain), "m")
    router.finish(placement, None, 3.0)
    assert router.ruler.tokens_at(chain, len(chain), "m") == before
    assert router.replicas[0].rate.s_per_tok == 2.0 / placement.placing.prompt_tokens


def test_what_is_marked_to_be_kept_is_dearer_to_push_out() -> None:
    """Two replicas full of one idle conversation each: a new one goes where nothing is wanted."""
    for wanted in ("r0", "r1"):
        router = make_router([make_replica(name, hbm_tokens=1000) for name in ("r0", "r1")])
        for replica in router.replicas:
            retention_s = 3600.0 if replica.id == wanted else 0.0
            identity = Identity("", "m", f"on {replica.id}", retention_s=retention_s)
            others = frozenset({"r0", "r1"}) - {replica.id}
            placement = router.place(identity, make_chain(replica.id * 1800), 0.0, others)
            router.finish(placement, Usage(900, 1, 0), 1.0)
        placed = router.place(Identity("", "m", "new"), make_chain("n" * 2000), 1200.0)
        assert placed.replica.id != wanted


def test_replicas_come_and_go_under_requests() -> None:
    router = make_router(1)
    [old] = router.replicas
    under_way = router.place(SESSION, make_chain(TURN), 0.0)
    router.add(make_replica("r1"))
    router.remove(old)
    assert router.place(SESSION, make_chain(TURN), 1.0).replica.id == "r1"
    assert router.affinity.sessions("r0") == 0
    router.finish(under_way, Usage(16, 1, 0), 2.0)
    assert (old.load.in_flight, old.load.waiting) == (0, {})


def test_a_pinned_session_goes_where_it_is_tied() -> None:
    router = make_router(3)
    for name in ("r2", "r0", "r1"):
        router.pins.pin("s1", name)
        assert finish(router, SESSION, make_chain(TURN), 0.0) == name


def alone(router: Router, identity: Identity, text: str, now: float = 0.0) -> str:
    """Where a turn goes that is over at once."""
    placement = router.place(identity, make_chain(text), now)
    router.finish(placement, Usage(len(text) // 4, 1, 0), now)
    return placement.replica.id


@pytest.mark.parametrize(
    "child",
    [
        Identity("", "m", "s", "a1"),
        Identity("", "m", "s", "a2", "a1"),
        Identity("", "m", "other", parent="s"),
    ],
)
def test_a_sub_agent_starts_near_its_parent_if_that_costs_no_more(child: Identity) -> None:
    parents = set()
    for index in range(8):
        # What conversations live where costs the same everywhere.
        router = make_router(4, weights=Weights(crowding=0.0))
        parent = f"s{index}" if child.session != "s" else "s"
        elder = Identity("", "m", parent, child.parent if child.agent else "")
        home = alone(router, elder, f"parent {index} " * 40)
        parents.add(home)
        begun = replace(child, parent=parent) if child.session != "s" else child
        assert alone(router, begun, f"child {index} " * 40, 1.0) == home
    assert len(parents) > 1 or child.session == "s"


def test_a_sub_agent_starts_where_its_own_prefix_is() -> None:
    router = make_router(2, weights=Weights(crowding=0.0))
    home = alone(router, Identity("", "m", "s"), "parent " * 400)
    other = next(r.id for r in router.replicas if r.id != home)
    instructions = "you search code " * 400
    placement = router.place(
        Identity("", "m", "t", "a"), make_chain(instructions), 0.0, frozenset({home})
    )
    router.finish(placement, Usage(1600, 1, 0), 0.0)
    begun = router.place(Identity("", "m", "s", "a"), make_chain(instructions, "task"), 1.0)
    assert begun.replica.id == other


def test_siblings_spread() -> None:
    router = make_router(4)
    alone(router, Identity("", "m", "s"), "parent " * 400)
    begun = [
        router.place(Identity("", "m", "s", f"a{n}"), make_chain(f"{n}" * 4000), 1.0)
        for n in range(8)
    ]
    assert sorted(Counter(each.replica.id for each in begun).values()) == [2, 2, 2, 2]


def test_streams_without_figures_are_noticed_and_errors_are_none() -> None:
    router, chain = make_router(1), make_chain("x" * 400)
    told = []
    for number in range(150):
        placement = router.place(Identity("t", "m", "s"), chain, float(number))
        told.append(router.finish(placement, None, number + 0.5, streamed=number % 2 == 0))
    assert [outcome.uncounted for outcome in told if outcome is not None] == [True]
