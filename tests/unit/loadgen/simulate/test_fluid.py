from array import array

from hypothesis import given
from hypothesis import strategies as st

from loadgen.engine_model import Admitted, Engine, EngineLimits, EngineRates, Finished, Request
from loadgen.simulate.fluid import FluidEngine

RATES = EngineRates(prefill_tok_s=1000, decode_step_s=0.01)
LIMITS = EngineLimits(hbm_tokens=16 * 40, block_size=16)


def request(key: str, blocks: list[int], output: int = 3) -> Request:
    return Request(key, array("Q", blocks).tobytes(), 16 * len(blocks) + 4, output)


def drain(engine: Engine | FluidEngine) -> tuple[dict[str, int], dict[str, float]]:
    """(hit tokens, end time) of every request, until nothing is left to happen."""
    hits, ends = {}, {}
    while (at := engine.next_event_time()) is not None:
        for emission in engine.advance(at):
            if isinstance(emission, Admitted):
                hits[emission.id] = emission.hbm_hit
            elif isinstance(emission, Finished):
                ends[emission.id] = emission.time_s
    return hits, ends


def test_prompts_are_prefilled_one_by_one_and_decode_beside_each_other() -> None:
    engine = FluidEngine(RATES, LIMITS)
    engine.submit(request("a", list(range(5)), output=101), 0.0)
    engine.submit(request("b", list(range(50, 55)), output=1), 0.0)
    _, ends = drain(engine)
    assert ends == {"b": 0.168, "a": 0.084 + 1.0}


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(1, 12)), min_size=1, max_size=20))
def test_one_after_the_other_both_engines_hit_the_same(asked: list[tuple[int, int]]) -> None:
    found = []
    for engine in (FluidEngine(RATES, LIMITS), Engine(RATES, LIMITS)):
        hits, now = {}, 0.0
        for number, (prefix, blocks) in enumerate(asked):
            chain = [prefix * 1000 + block for block in range(blocks)]
            engine.submit(request(str(number), chain), now)
            found_hits, ends = drain(engine)
            hits |= found_hits
            now = ends[str(number)]
        found.append(hits)
    assert found[0] == found[1]


def test_a_prompt_waits_for_room_instead_of_taking_what_is_in_use() -> None:
    engine = FluidEngine(RATES, LIMITS)
    engine.submit(request("long", list(range(30)), output=100), 0.0)
    engine.submit(request("next", list(range(100, 120))), 0.0)
    _, ends = drain(engine)
    assert ends["next"] > ends["long"]
