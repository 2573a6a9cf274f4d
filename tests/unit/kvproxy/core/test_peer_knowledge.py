from kvproxy.core.peer_knowledge import heard, presume, taught
from kvproxy.core.types import Identity, Learned
from tests.support.makers import make_router, numbered_chain


def test_what_was_heard_is_matched() -> None:
    router = make_router(3)
    chain = numbered_chain(50)
    heard(router, router.replicas[1], "", chain.until(40), 1.0)
    heard(router, router.replicas[1], "", chain.until(40), 2.0)
    lookup = router.look_up(Identity("", "", "s"), chain, 3.0)
    assert [match.blocks for match in lookup.matches] == [0, 40, 0]
    assert router.place(Identity("", "", "s"), chain, 3.0).replica is router.replicas[1]


def test_lessons_of_others_count_as_own_and_impossible_ones_do_not() -> None:
    router, chain = make_router(2), numbered_chain(20)
    replicas = {replica.id: replica for replica in router.replicas}
    for _ in range(3):
        taught(router, replicas, Learned("r0", chain.end, 5000, 4000, 2.0))
    assert router.ruler.tokens_at(chain, len(chain), "") == 5000
    assert replicas["r0"].rate.s_per_tok == 2.0 / 4000
    before = replicas["r1"].rate.s_per_tok
    assert before == 2.0 / 4000, "it is taken for as fast as the other"
    for miss, ttft_s in ((0, 1.0), (9000, 1.0), (4000, 0.0), (-1, 1.0), (4000, -1.0)):
        taught(router, replicas, Learned("r1", 1, 5000, miss, ttft_s))
    taught(router, replicas, Learned("gone", 1, 0, 1, 1.0))
    # The next turn of that conversation could not be placed.
    taught(router, replicas, Learned("gone", chain.end, 2**32, 1, 1.0))
    assert router.ruler.tokens_at(chain, len(chain), "") == 5000
    assert replicas["r1"].rate.s_per_tok == before


def test_every_proxy_presumes_the_same_home() -> None:
    identity, chain = Identity("t", "", "s"), numbered_chain(5)
    homes = set()
    for _ in range(3):
        router = make_router(8)
        presume(router, identity, chain, 0.0)
        home = router.look_up(identity, chain, 1.0).home
        assert home is not None
        homes.add(home.replica)
    assert len(homes) == 1
