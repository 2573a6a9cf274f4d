from array import array

from hypothesis import given
from hypothesis import strategies as st

from kvproxy.core.token_run import Position, TokenRuns

STEPS = st.lists(
    st.tuples(st.integers(0, 20), st.lists(st.integers(1, 3), max_size=5)), max_size=20
)


@given(STEPS)
def test_every_position_keeps_its_own_chain(steps: list[tuple[int, list[int]]]) -> None:
    runs = TokenRuns()
    positions: list[tuple[Position, list[int]]] = []
    for base, hashes in steps:
        # A block's name covers all before it.
        at, chain = positions[base % len(positions)] if base and positions else (runs.start(), [])
        names = list(chain)
        for word in hashes:
            names.append(hash((tuple(names), word)) % 2**64 or 1)
        at = runs.extend(at, names[len(chain) :])
        runs.keep(at)
        positions.append((at, names))
        for known, expected in positions:
            assert known.chain() == array("Q", expected)
            assert known.chain(len(expected) // 2) == array("Q", expected[: len(expected) // 2])
            if expected:
                found = known.find(expected[len(expected) // 2])
                assert found is not None
                assert list(found.chain()) == expected[: len(expected) // 2 + 1]
    for at, _ in positions:
        runs.release(at)


def test_a_growing_chain_is_stored_once() -> None:
    runs = TokenRuns()
    at = runs.start()
    runs.keep(at)
    before = runs.bytes
    for turn in range(100):
        at = runs.extend(at, range(turn * 10 + 1, turn * 10 + 11))
        runs.keep(at)
    assert runs.bytes == before + 8 * 1000
    assert at.run.parent is None
    for _ in range(101):
        runs.release(at)
    assert runs.bytes == 0


def test_a_branch_holds_what_it_grew_from() -> None:
    runs = TokenRuns()
    trunk = runs.extend(runs.start(), [1, 2, 3, 4])
    runs.keep(trunk)
    branch = runs.extend(Position(trunk.run, 2), [3, 9])
    runs.keep(branch)
    assert list(branch.chain()) == [1, 2, 3, 9]
    assert branch.run.parent is trunk.run
    runs.release(trunk)
    assert list(branch.chain()) == [1, 2, 3, 9]
    runs.release(branch)
    assert runs.bytes == 0


def test_unknown_blocks_are_not_found() -> None:
    runs = TokenRuns()
    assert runs.start().find(5) is None
