from dataclasses import replace

from hypothesis import given

from loadgen.bound import InfiniteCache
from loadgen.content import Conversation
from loadgen.plan import ContentSettings, Plan, Plans
from loadgen.text import WordPool
from loadgen.traces.model import SubAgent, Trace
from loadgen.warm import Warm
from tests.support.traces import growing, random_traces, trace, turn
from tests.unit.loadgen.test_content import common_tokens, words

POOL = WordPool(1)


def test_a_plan_is_made_once_a_trace() -> None:
    plans, made = Plans(ContentSettings()), growing("a", [64, 128])
    assert plans.of(made) is plans.of(made)
    assert plans.of(growing("b", [64])) is not plans.of(made)


def test_lanes_are_rows_of_requests() -> None:
    inner = SubAgent("s", 0.0, (turn(32, [90, 91]), turn(48, [90, 91, 92])), 0)
    plan = Plan(trace([turn(32, [1, 2]), inner, turn(48, [1, 2, 3])]), ContentSettings())
    assert [plan.request(*place) for place in ((0, 0), (0, 1), (1, 0), (1, 1))] == [0, 1, 2, 3]
    assert [plan.following(request) for request in range(4)] == [1, 1, 3, 3]


@given(random_traces())
def test_two_plays_share_the_warm_tokens(made: Trace) -> None:
    plan = Plan(made, ContentSettings(warm=Warm(48)))
    one, other = (Conversation(plan, POOL, play) for play in (0, 1))
    for request, asked in enumerate(made.turns):
        kind, tokens = plan.warm_tokens(request)
        assert kind == "main"
        assert tokens <= 48
        shared = common_tokens(words(one, request), words(other, request))
        assert min(tokens, asked.input_tokens) <= shared


def test_the_opening_is_warm() -> None:
    plan = Plan(growing("a", [64, 160]), ContentSettings(warm=Warm(16)))
    assert [plan.warm_tokens(request) for request in (0, 1)] == [("main", 16)] * 2


def test_traces_with_common_ids_share_whole_messages() -> None:
    lengths = ((1, 16_000), (2, 24_000), (3, 9_000))
    rows = [growing(f"r{n}", [tokens]) for n, tokens in lengths]
    rows = [replace(row, shared_ids=True, start_s=float(n)) for n, row in enumerate(rows)]
    plans = Plans(ContentSettings(), rows)
    plan = plans.of(rows[2])
    assert all(plans.of(row) is plan for row in rows)
    sent = [Conversation(plan, POOL).prompt(plan.request(plan.lane_of(row), 0)) for row in rows]
    assert [prompt.tokens for prompt in sent] == [16_000, 24_000, 9_000]
    longest = sent[1].fragments
    # A shorter prompt is the beginning of a longer one, message by message.
    assert sent[0].fragments == longest[: len(sent[0].fragments)]
    assert sent[2].fragments == longest[: len(sent[2].fragments)]


def test_an_unlimited_cache_knows_what_others_with_common_ids_sent() -> None:
    rows = [replace(growing(f"r{n}", [n * 1600]), shared_ids=True) for n in (1, 2)]
    plans, cache = Plans(ContentSettings(), rows), InfiniteCache(16)
    plan = plans.of(rows[0])
    sent = [cache.play(plan).send(plan.request(plan.lane_of(row), 0)) for row in rows]
    assert sent == [0, 1600]
    assert cache.play(plan, play=1).send(plan.request(plan.lane_of(rows[1]), 0)) == 0
