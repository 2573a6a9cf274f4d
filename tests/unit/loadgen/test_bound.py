from hypothesis import given

from loadgen.bound import InfiniteCache
from loadgen.content import Conversation
from loadgen.plan import ContentSettings, Plan
from loadgen.text import WordPool
from loadgen.traces.model import Trace
from loadgen.warm import Warm
from tests.support.traces import growing, random_traces, trace, turn
from tests.unit.loadgen.test_content import common_tokens, words

POOL = WordPool(1)
COLD = ContentSettings()


@given(random_traces())
def test_bound_is_the_longest_prefix_of_anything_sent_before(made: Trace) -> None:
    plan = Plan(made, COLD)
    conversation = Conversation(plan, POOL)
    cache = InfiniteCache(4).play(plan)
    sent: list[bytes] = []
    for request, asked in enumerate(made.turns):
        bound = cache.send(request)
        text = words(conversation, request)
        if not asked.input_tokens:
            continue
        shared = max((common_tokens(text, other) for other in sent), default=0)
        exact = min(shared, asked.input_tokens - 1) // 4 * 4
        # Words of different blocks may be equal by chance, which the bound does not see.
        assert exact - 4 <= bound <= exact
        sent.append(text)


def test_the_last_token_is_always_computed() -> None:
    plan = Plan(growing("a", [64, 64]), COLD)
    cache = InfiniteCache(16).play(plan)
    assert [cache.send(0), cache.send(1)] == [0, 48]


def test_a_tail_counts_in_blocks_of_the_engine() -> None:
    plan = Plan(growing("a", [70, 200], size=64), COLD)
    cache = InfiniteCache(16).play(plan)
    assert [cache.send(0), cache.send(1)] == [0, 64]
    plan = Plan(growing("a", [90, 200], size=64), COLD)
    cache = InfiniteCache(16).play(plan)
    assert [cache.send(0), cache.send(1)] == [0, 80]


def test_the_warm_prefix_hits_across_conversations() -> None:
    everyone = InfiniteCache(16)
    bounds = []
    for number in (1, 50):
        made = trace([turn(160, range(number, number + 10))], f"t{number}", fixed=80)
        plan = Plan(made, ContentSettings(warm=Warm(80)))
        bounds.append(everyone.play(plan).send(0))
    assert bounds == [0, 80]


def test_another_play_of_a_trace_hits_nothing_of_the_first() -> None:
    everyone = InfiniteCache(16)
    plan = Plan(growing("a", [160]), COLD)
    assert [everyone.play(plan).send(0) for _ in range(2)] == [0, 0]
