from itertools import pairwise

from hypothesis import given

from loadgen.prefix_tree import PrefixTree
from loadgen.traces.model import Trace
from tests.support.traces import growing, random_traces, trace, turn


def tree_of(made: Trace, trim: int = 0) -> PrefixTree:
    prompts = [(t.input_tokens, t.blocks) for t in made.turns]
    return PrefixTree(prompts, made.block_size, trim)


@given(random_traces())
def test_every_prompt_is_a_path(made: Trace) -> None:
    tree = tree_of(made)
    for request, asked in enumerate(made.turns):
        path = tree.end_of[request].path()
        ids = [block for branch in path for block in branch.ids]
        assert ids[: len(asked.blocks)] == list(asked.blocks)
        assert path[0] is tree.root
        assert all(low.stop == high.first for low, high in pairwise(path))
        assert request in path[-1].ends[asked.input_tokens]


@given(random_traces())
def test_branches_part_only_where_prompts_do(made: Trace) -> None:
    tree = tree_of(made)
    for branch in tree.branches:
        assert branch.parent is None or tree.branches.index(branch.parent) < branch.number
        for first, child in branch.children.items():
            assert child.ids[0] == first
            assert child.parent is branch
    # Compressed: a branch that continues in one way only does not end there.
    assert all(len(branch.children) != 1 or branch is tree.root or _tail_only(branch.children)
               for branch in tree.branches)  # fmt: skip


def _tail_only(children: dict[int, object]) -> bool:
    return all(first < 0 for first in children)


def test_a_growing_conversation_is_one_branch() -> None:
    tree = tree_of(growing("a", [40, 70, 100]))
    assert len(tree.branches) == 3  # root, the blocks, the last tail
    assert sorted(tree.branches[1].ends) == [40, 70]


def test_a_tail_opens_the_block_of_the_next_request_to_come() -> None:
    made = trace([turn(20, [1]), turn(40, [1, 2]), turn(24, [1]), turn(40, [1, 3])])
    tree = tree_of(made)
    assert tree.end_of[0].ids[0] == 2
    assert tree.end_of[2].ids[0] == 3


def test_trimmed_tokens_belong_to_what_follows() -> None:
    # 33 tokens reach into block 2, but without the last two they end inside block 1.
    made = trace([turn(33, [1, 2]), turn(48, [1, 2, 3]), turn(48, [1, 2, 4])])
    end = tree_of(made, trim=2).end_of[0]
    assert list(end.ids) == [1, 2]
    assert 31 in end.ends
