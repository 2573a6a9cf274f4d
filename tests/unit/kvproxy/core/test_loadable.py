from kvproxy.core.loadable import Loadable, Told
from kvproxy.core.types import Tier
from tests.support.makers import make_chain

TEXT = "a long beginning " * 200


def told(chain_length: int) -> Told:
    return Told(chain_length, 1000, {"r0": {Tier.DRAM: 768}})


def test_the_longest_known_beginning_is_found() -> None:
    loadable = Loadable(10)
    first, second = make_chain(TEXT), make_chain(TEXT, "and more " * 50)
    assert loadable.find(first) is None
    loadable.put(first.end, told(len(first)))
    assert loadable.find(second) == told(len(first))
    loadable.put(second.end, told(len(second)))
    third = make_chain(TEXT, "and more " * 50, "and this")
    assert loadable.find(third) == told(len(second))
    loadable.drop(second.end)
    assert loadable.find(third) == told(len(first))
    assert loadable.find(make_chain("another")) is None
    loadable.clear()
    assert loadable.find(first) is None


def test_what_is_told_again_is_no_newer_and_the_oldest_leaves_first() -> None:
    loadable = Loadable(2)
    chains = [make_chain(f"{number} {TEXT}") for number in range(3)]
    for chain in (chains[0], chains[1], chains[0], chains[2]):
        loadable.put(chain.end, told(len(chain)))
    assert len(loadable) == 2
    assert loadable.find(chains[0]) is None
    assert loadable.has_room_for(chains[2].end)
    assert not loadable.has_room_for(chains[0].end)


def test_who_had_to_leave_is_told() -> None:
    loadable = Loadable(2)
    ends = [make_chain(f"{number} {TEXT}").end for number in range(3)]
    assert [loadable.put(end, told(5)) for end in (*ends[:2], ends[0], ends[2])] == [
        [],
        [],
        [],
        ends[:1],
    ]
