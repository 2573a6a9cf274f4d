from bisect import bisect_right
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvproxy.core.blocks import extend
from kvproxy.core.ruler import Ruler
from kvproxy.core.segments import segment
from kvproxy.core.slopes import Measure, Slopes, measure
from kvproxy.core.turn_begins import Turned
from kvproxy.core.types import Chain
from tests.support.makers import BLOCK_BYTES, make_chain

LENGTHS = st.lists(st.integers(1, 400), min_size=1, max_size=12)


def chain_of(lengths: list[int]) -> Chain:
    return make_chain(*(b"x" * length for length in lengths))


def true_tokens(chain: Chain, blocks: int, per_byte: float, per_segment: float) -> float:
    ended = bisect_right(chain.segment_ends, blocks)
    return chain.text_bytes[blocks - 1] * per_byte + ended * per_segment


def test_the_prior_counts_bytes_and_segments() -> None:
    ruler = Ruler(10)
    chain = chain_of([400, 400])
    assert ruler.tokens_at(chain, len(chain), "m") == 0.25 * 800 + 4.0 * 2
    assert ruler.tokens_at(chain, 0, "m") == 0.0
    assert ruler.tokens_at(Chain(), 0, "m") == 0.0


@given(st.lists(LENGTHS, min_size=2, max_size=8), st.floats(0.1, 1.0), st.floats(0.0, 20.0))
def test_an_observed_prompt_is_known_exactly(
    prompts: list[list[int]], per_byte: float, per_segment: float
) -> None:
    ruler = Ruler(1000)
    for lengths in prompts:
        chain = chain_of(lengths)
        tokens = true_tokens(chain, len(chain), per_byte, per_segment)
        ruler.learn(chain, len(chain), tokens, "m")
        assert ruler.tokens_at(chain, len(chain), "m") == tokens


def test_linear_tokens_are_predicted_exactly() -> None:
    """Prompts never seen, from a model whose tokens are linear in bytes and segments."""
    ruler = Ruler(1000)
    for index in range(300):
        length, parts = 200 + 37 * (index % 11), 1 + index % 7
        chain = make_chain(*[b"x" * length] * parts, root=1 + index)
        ruler.learn(chain, len(chain), true_tokens(chain, len(chain), 0.31, 7.5), "m")
    chain = chain_of([123, 456, 789, 10])
    for blocks in range(1, len(chain) + 1):
        expected = true_tokens(chain, blocks, 0.31, 7.5)
        assert ruler.tokens_at(chain, blocks, "m") == pytest.approx(expected, rel=0.01, abs=0.5)


def test_the_next_turn_is_off_by_its_new_part_only() -> None:
    """One observation ties the conversation down: within an engine block after it."""
    ruler = Ruler(1000)
    first = [20_000] * 4
    chain = chain_of(first)
    ruler.learn(chain, len(chain), true_tokens(chain, len(chain), 0.29, 11.0), "m")
    grown = chain_of([*first, 300])
    expected = true_tokens(grown, len(grown), 0.29, 11.0)
    assert abs(ruler.tokens_at(grown, len(grown), "m") - expected) < 16


def test_where_openings_part_the_count_is_that_of_the_text_they_share() -> None:
    """Its text is dearer than any other's, and the second conversation ends soon."""
    ruler = Ruler(1000)
    for _ in range(20):
        prose = make_chain(b"p" * 900, root=9)
        ruler.learn(prose, len(prose), 225.0, "m")
    shared = b"s" * 2048
    first, second = make_chain(shared + b"a" * 2000), make_chain(shared + b"b" * 100)
    ruler.learn(first, len(first), 0.5 * 4048, "m")
    common = sum(one == other for one, other in zip(first.hashes, second.hashes, strict=False))
    assert common == 2048 // BLOCK_BYTES
    assert ruler.tokens_at(second, common, "m") == pytest.approx(0.5 * 2048, rel=0.05)


def test_a_mark_gives_way_to_what_is_told() -> None:
    ruler = Ruler(1000)
    chain = make_chain(b"s" * 4000)
    ruler.learn(chain, len(chain), 1000.0, "m")
    for blocks in range(1, len(chain)):
        ruler.learn(chain, blocks, 2.0 * blocks, "m")
        assert ruler.tokens_at(chain, blocks, "m") == 2.0 * blocks
    assert not ruler._marks


def test_anchors_are_bounded_and_the_oldest_goes_first() -> None:
    ruler = Ruler(2)
    chains = [chain_of([100 + index]) for index in range(3)]
    for chain in chains:
        ruler.learn(chain, len(chain), 1000.0, "m")
    assert len(ruler._anchors) == 2
    assert ruler._marks <= ruler._anchors.keys()
    assert ruler.tokens_at(chains[0], len(chains[0]), "m") != 1000.0
    assert ruler.tokens_at(chains[2], len(chains[2]), "m") == 1000.0


def test_models_have_their_own_slopes_and_a_bound() -> None:
    ruler = Ruler(10)
    chain = chain_of([4000])
    ruler.learn(chain, len(chain), 2000.0, "dense")
    other = make_chain(b"y" * 4000)
    assert ruler.tokens_at(other, len(other), "dense") == pytest.approx(2000.0, rel=0.05)
    assert ruler.tokens_at(other, len(other), "other") == 1004.0
    for index in range(3000):
        ruler.tokens_at(chain, 1, f"m{index}")
    assert len(ruler._slopes) <= 1024


@given(st.lists(st.tuples(LENGTHS, st.integers(0, 10_000)), max_size=30), LENGTHS)
def test_estimates_are_never_negative_nor_fall(
    seen: list[tuple[list[int], int]], lengths: list[int]
) -> None:
    """Whatever engines report, a prompt has no fewer tokens than an anchor in it."""
    ruler = Ruler(100)
    for prompt, tokens in seen:
        chain = chain_of(prompt)
        ruler.learn(chain, len(chain), tokens, "m")
    chain = make_chain(*(b"x" * length for length in lengths), root=1)
    ruler.learn(chain, 1, 50.0, "m")
    assert all(ruler.tokens_at(chain, blocks, "m") >= 50.0 for blocks in range(1, len(chain) + 1))


def test_learning_nothing() -> None:
    ruler = Ruler(10)
    ruler.learn(Chain(), 0, 100.0, "m")
    assert len(ruler._anchors) == 0


@given(
    st.lists(st.tuples(LENGTHS, st.integers(0, 10_000)), max_size=20),
    LENGTHS,
    st.integers(0, 12),
    st.integers(0, 3000),
)
def test_ends_of_blocks_are_what_tokens_at_says_and_never_fall(
    seen: list[tuple[list[int], int]], lengths: list[int], held: int, least: int
) -> None:
    ruler = Ruler(100)
    for prompt, tokens in seen:
        chain = chain_of(prompt)
        ruler.learn(chain, len(chain), tokens, "m")
    chain = chain_of(lengths)
    held = min(held, len(chain))
    expected, floor = [], least
    for blocks in range(held + 1, len(chain) + 1):
        floor = max(floor, round(ruler.tokens_at(chain, blocks, "m")))
        expected.append(floor)
    # Sums in another order may round to the other side.
    assert list(ruler.token_ends(chain, held, "m", least)) == pytest.approx(expected, abs=1)


@given(LENGTHS, st.integers(0, 12), st.randoms(use_true_random=False))
def test_how_many_blocks_end_by_a_position_is_what_their_ends_say(
    lengths: list[int], held: int, random: Random
) -> None:
    ruler, chain = Ruler(100), chain_of(lengths)
    for blocks in random.sample(range(1, len(chain) + 1), k=min(3, len(chain))):
        # It agrees with what is estimated.
        ruler.hit(chain, blocks, ruler.tokens_at(chain, blocks, "m"), 8.0, "m", parts=False)
    blocks = random.randint(1, len(chain))
    held = min(held, blocks - 1)
    ends = [ruler.tokens_at(chain, each, "m") + 0.5 for each in range(held, blocks + 1)]
    for position in {0, *map(int, ends), random.randint(0, 2000)}:
        if position >= int(ends[-1]):
            continue
        found, end = ruler.reach(chain, held, blocks, "m", end=int(ends[-1]), position=position)
        assert held <= found < blocks
        # Where the last one ends is a whole number.
        if found > held:
            assert end <= position
            assert end == pytest.approx(ends[found - held], abs=1)
            assert ends[found - held] < position + 1.51
        assert ends[found - held + 1] >= position + 0.49


def test_what_is_known_lies_on_either_side_of_a_position() -> None:
    """Of a prompt whose tokens are three times what its text would let expect."""
    ruler, chain = Ruler(100), chain_of([640] * 4)
    for turn in (1, 2, 3):
        ruler.told(chain.hashes[11 * turn - 1], 600 * turn)
    known, beyond = chain.hashes[10], chain.hashes[21]
    assert known != beyond
    for position in range(600, 1200):
        found, end = ruler.reach(chain, 0, len(chain), "m", end=2400, position=position)
        assert 11 <= found < 22
        assert 600 <= end <= position
    assert ruler.reach(chain, 0, len(chain), "m", end=2400, position=1200) == (22, 1200)
    assert ruler.reach(chain, 0, len(chain), "m", end=2400, position=1799)[0] < 33


def test_a_hit_teaches_no_rates() -> None:
    """Engines evict a little more than was thought: the next prompt's count, taken from where they
    said they had stopped, would be too high time and again."""
    ruler = Ruler(1000)
    for turn in range(50):
        chain = make_chain(b"s" * 4000, b"u" * 800, root=turn)
        ruler.learn(chain, len(chain), 1200.0, "m")
        ruler.hit(chain, 40, 0.25 * 40 * BLOCK_BYTES - 90, 8.0, "m", parts=False)
    fresh = make_chain(b"s" * 4000, b"u" * 800, root=99)
    assert ruler.tokens_at(fresh, len(fresh), "m") == pytest.approx(1200.0, abs=2.0)


def test_a_hit_that_agrees_leaves_an_exact_count_alone() -> None:
    ruler = Ruler(1000)
    chain = make_chain(b"s" * 400, b"t" * 100)
    first = make_chain(b"s" * 400)
    ruler.learn(first, len(first), 102.0, "m")
    ruler.hit(chain, len(first), 96.0 + 8, 8.0, "m", parts=True)
    assert ruler.tokens_at(chain, len(first), "m") == 102.0
    ruler.hit(chain, len(first), 64.0 + 8, 8.0, "m", parts=True)
    assert ruler.tokens_at(chain, len(first), "m") == 72.0
    ruler.learn(first, len(first), 103.0, "m")
    assert ruler.tokens_at(chain, len(first), "m") == 103.0
    assert not ruler._hits
    ruler.hit(chain, 0, 8.0, 8.0, "m", parts=True)


def test_half_a_block_more_is_alike_where_chains_part_alone() -> None:
    ruler = Ruler(1000)
    chain = make_chain(b"s" * 4000)
    here, block = ruler.tokens_at(chain, 10, "m"), 0.25 * BLOCK_BYTES
    assert ruler.tokens_held(chain, 10, "m", parts=False) == here
    assert ruler.tokens_held(chain, 10, "m", parts=True) == here + block / 2
    ruler.hit(chain, 10, here - 3, 8.0, "m", parts=True)
    assert ruler.tokens_held(chain, 10, "m", parts=True) == here - 3


def test_where_prompts_part_teaches_what_the_text_before_costs() -> None:
    """Once a place: it is one text however many prompts part there."""
    ruler = Ruler(1000)
    text, per_byte = b"s" * 6400, 0.4
    chain = make_chain(text, b"u" * 400)
    ruler.learn(chain, len(chain), per_byte * 6800 + 8, "m")
    fresh = make_chain(b"t" * 6400, root=3)
    before = ruler.tokens_at(fresh, len(fresh), "m")
    for _ in range(50):
        ruler.hit(chain, 50, per_byte * 50 * BLOCK_BYTES, 8.0, "m", parts=True)
    once = ruler.tokens_at(fresh, len(fresh), "m")
    assert abs(per_byte * 6400 - once) < abs(per_byte * 6400 - before)
    assert ruler._slopes["m"]._learned == 2


def test_a_known_parting_mends_the_marks_around_it() -> None:
    ruler = Ruler(1000)
    chain = make_chain(b"s" * 3200, b"u" * 3200)
    ruler.learn(chain, len(chain), 1600.0, "m")
    assert ruler.tokens_at(chain, 40, "m") == pytest.approx(640, abs=20)
    # The shared text was cheaper, so what follows was dearer.
    ruler.hit(chain, 50, 400.0, 8.0, "m", parts=True)
    assert ruler.tokens_at(chain, 40, "m") == pytest.approx(320, rel=0.1)
    assert ruler.tokens_at(chain, 76, "m") == pytest.approx(1000, rel=0.1)


def test_marks_stay_once_rates_are_settled() -> None:
    ruler = Ruler(10_000)
    for number in range(70):
        prompt = make_chain(b"x" * 900, root=9 + number)
        ruler.learn(prompt, len(prompt), 225.0, "m")
    first, second = make_chain(b"s" * 3200, b"a" * 640), make_chain(b"s" * 3200, b"b" * 640)
    ruler.learn(first, len(first), 1600.0, "m")
    marked = ruler.tokens_at(first, 40, "m")
    ruler.learn(second, len(second), 1800.0, "m")
    assert ruler.tokens_at(first, 40, "m") == marked


def test_the_same_prompt_again_teaches_nothing() -> None:
    ruler = Ruler(1000)
    chain = chain_of([400, 400])
    for _ in range(5):
        ruler.learn(chain, len(chain), 300.0, "m")
    assert ruler._slopes["m"]._learned == 1


def test_most_counts_of_what_is_well_known_are_passed_over_but_none_of_a_new_opening() -> None:
    ruler = Ruler(10_000)
    parts = [b"s" * 900]
    for turn in range(60):
        parts.append(b"u" * (300 + turn))
        chain = make_chain(*parts)
        ruler.learn(chain, len(chain), true_tokens(chain, len(chain), 0.25, 4.0), "m")
    learned = ruler._slopes["m"]._learned
    assert 15 <= learned <= 40
    for number in range(20):
        chain = make_chain(b"n" * 800, root=9 + number)
        ruler.learn(chain, len(chain), 204.0, "m")
    assert ruler._slopes["m"]._learned == learned + 20


def opening(name: str, *, cut: int | None = None) -> Chain:
    """A system text, a user's and a long result; `cut`: it goes on otherwise from there."""
    system = f"{name} {'s' * 4000}".encode()
    if cut is not None:
        system = system[:cut] + b"x" * (len(system) - cut)
    parts = [("system", system), ("user", b"u" * 200), ("tool", b"r" * 3000)]
    chain = Chain()
    extend(chain, [segment(role, [text]) for role, text in parts], BLOCK_BYTES, 1 << 15)
    return chain


def opening_tokens(size: int, rates: tuple[float, float]) -> list[int]:
    """A prompt of which each turn begins with 7: its system text is far from its result."""
    texts = (round(rates[0] * size), 50, round(rates[1] * 3000))
    return [token for tokens in texts for token in (7, *range(100, 100 + tokens))] + [7, 8]


@pytest.mark.parametrize("rates", [(0.17, 0.42), (0.36, 0.2), (0.3, 0.3)])
def test_turns_that_are_told_place_a_cut_in_the_first_prompt_there_is(
    rates: tuple[float, float],
) -> None:
    ruler, chain = Ruler(1000), opening("one")
    system = chain.text_bytes[chain.segment_ends[0] - 1]
    tokens = opening_tokens(system, rates)
    ruler.learn(chain, len(chain), len(tokens), "m")
    ruler.turned(Turned(chain, "m", [[i for i, token in enumerate(tokens) if token == 7]]))
    other = opening("one", cut=3000)
    blocks = sum(one == two for one, two in zip(chain.hashes, other.hashes, strict=False))
    assert 0 < blocks < len(chain)
    true = rates[0] * chain.text_bytes[blocks - 1]
    assert abs(ruler.tokens_at(other, blocks, "m") - true) < 12
    assert ruler.tokens_at(chain, len(chain), "m") == len(tokens)


def test_turns_of_a_prompt_that_nobody_counted_say_nothing() -> None:
    ruler, chain = Ruler(1000), opening("one")
    ruler.turned(Turned(chain, "m", [[0, 1000, 1051]]))
    untold = Ruler(1000)
    assert ruler.tokens_at(chain, 10, "m") == untold.tokens_at(chain, 10, "m")


def test_a_long_prompt_is_measured_once(monkeypatch: pytest.MonkeyPatch) -> None:
    measured: list[tuple[int, int]] = []

    def noted(chain: Chain, start: int, end: int) -> list[float]:
        measured.append((start, end))
        return measure(chain, start, end)

    monkeypatch.setattr("kvproxy.core.ruler.measure", noted)
    ruler = Ruler(1000)
    long, other = make_chain(b"x" * 200 * BLOCK_BYTES), make_chain(b"y" * 300 * BLOCK_BYTES)
    for chain in (long, other):
        assert ruler.tokens_at(chain, len(chain), "m") == Slopes().tokens(
            measure(chain, 0, len(chain))
        )
    for chain in (long, other):
        ruler.learn(chain, len(chain), 1234.0, "m")
    assert measured == [(0, len(long)), (0, len(other))]


@given(st.randoms(use_true_random=False))
def test_what_was_guessed_before_changes_no_estimate(random: Random) -> None:
    """Against a ruler that forgets each guess at once, and so always measures from a count."""
    ruler, twin = Ruler(100), Ruler(100)
    # Within _LOOK_BACK_BLOCKS.
    lengths = [1500]
    for _ in range(12):
        lengths.append(random.choice([10, 200, 600, 2400]))
        chain = chain_of(lengths)
        if random.random() < 0.2:
            told = len(chain) * random.uniform(10.0, 20.0)
            ruler.learn(chain, len(chain), told, "m")
            twin.learn(chain, len(chain), told, "m")
        for blocks in (len(chain), random.randrange(1, len(chain) + 1), len(chain)):
            twin._guesses.clear()
            expected = twin.tokens_at(chain, blocks, "m")
            assert ruler.tokens_at(chain, blocks, "m") == pytest.approx(expected, rel=1e-9)


def test_a_turn_without_counts_measures_what_is_new_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    ruler, measured = Ruler(100), []

    def noted(chain: Chain, start: int, end: int) -> Measure:
        measured.append(end - start)
        return measure(chain, start, end)

    monkeypatch.setattr("kvproxy.core.ruler.measure", noted)
    lengths = [4000] * 20
    for _ in range(5):
        chain = chain_of(lengths)
        for _ in range(3):
            ruler.tokens_at(chain, len(chain), "m")
        lengths.append(640)
    assert measured[0] > 1000
    assert len(measured) == 5
    assert max(measured[1:]) <= 12


def test_guesses_are_bounded() -> None:
    ruler, chain = Ruler(100), chain_of([400_000])
    assert len(chain) > 5000
    for blocks in range(1, len(chain) + 1):
        ruler.tokens_at(chain, blocks, "m")
    for index in range(100):
        ruler.tokens_at(chain, 1, f"m{index}")
    assert len(ruler._guesses) <= 16
    assert max(map(len, ruler._guesses.values())) <= 4096
