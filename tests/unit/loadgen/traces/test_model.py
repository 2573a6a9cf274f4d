from hypothesis import given
from hypothesis import strategies as st

from loadgen.traces.model import BlockIds, SubAgent, distinct_agents, head, truncate
from tests.support.traces import growing, trace, turn

ids = st.lists(st.integers(-3, 12), max_size=30)


@given(ids)
def test_runs_keep_the_sequence(blocks: list[int]) -> None:
    packed = BlockIds.of(blocks)
    assert list(packed) == list(packed.packed()) == blocks
    assert len(packed) == len(blocks)


@given(ids, ids, ids)
def test_common_prefix_is_that_of_the_lists(shared: list[int], a: list[int], b: list[int]) -> None:
    left, right = shared + a, shared + b
    naive = 0
    while naive < min(len(left), len(right)) and left[naive] == right[naive]:
        naive += 1
    assert BlockIds.of(left).common_prefix(BlockIds.of(right)) == naive


@given(ids, st.integers(0, 40))
def test_prefix_is_a_slice(blocks: list[int], count: int) -> None:
    assert list(BlockIds.of(blocks).prefix(count)) == blocks[:count]
    assert len(BlockIds.of(blocks).prefix(count)) == len(blocks[:count])


def test_contiguous_ids_take_one_run() -> None:
    assert BlockIds.of([*range(5, 500), *range(2000, 2100)]).runs == ((5, 495), (2000, 100))


def test_truncate_cuts_at_the_first_turn_that_is_too_large() -> None:
    cut = truncate(growing("a", [32, 64, 200, 48]), 100)
    assert cut is not None
    assert [t.input_tokens for t in cut.turns] == [32, 64]


def test_truncate_drops_a_trace_that_starts_too_large() -> None:
    assert truncate(growing("a", [200, 210]), 100) is None


def test_truncate_cuts_sub_agents_by_themselves() -> None:
    small = SubAgent("s", 0.0, (turn(32, [50, 51]), turn(160, range(50, 60))), 0)
    large = SubAgent("l", 0.0, (turn(160, range(70, 80)),), 0)
    cut = truncate(trace([turn(32, [1, 2]), small, large, turn(48, [1, 2, 3])]), 100)
    assert cut is not None
    assert [(agent.agent_id, len(agent.turns)) for agent in cut.sub_agents] == [("s", 1)]
    assert len(cut.turns) == 2


def test_head_counts_turns_and_keeps_sub_agents_between_them() -> None:
    agent = SubAgent("s", 0.0, (turn(32, [50, 51]),), 0)
    whole = trace([turn(32, [1, 2]), agent, turn(48, [1, 2, 3]), turn(64, [1, 2, 3, 4])])
    assert head(whole, 2).steps == whole.steps[:3]
    assert head(whole, 9) == whole


def test_sub_agents_that_were_called_again_get_names_of_their_own() -> None:
    inner = (turn(16, [9]),)
    agents = [SubAgent(name, 0.0, inner, 0) for name in ("s", "s", "s.2", "t", "s")]
    found = distinct_agents([turn(16, [1]), *agents])
    names = [step.agent_id for step in found if isinstance(step, SubAgent)]
    assert names == ["s", "s.2", "s.2.2", "t", "s.3"]
