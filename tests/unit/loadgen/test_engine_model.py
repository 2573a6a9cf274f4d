from loadgen import engine_model
from loadgen.engine_model import ChainHasher, Engine, EngineLimits, EngineRates, Request


def test_the_documented_use_works():
    chain = ChainHasher(16).chain(bytes(4 * 108))
    engine = Engine(EngineRates(), EngineLimits())
    engine.submit(Request("a", chain, prompt_tokens=100, output_tokens=8), now=0.0)
    said = []
    while (at := engine.next_event_time()) is not None:
        said += engine.advance(at)
    assert [type(emission).__name__ for emission in said] == [
        "Admitted",
        "FirstToken",
        "Tokens",
        "Finished",
    ]


def test_all_names_exist():
    assert all(hasattr(engine_model, name) for name in engine_model.__all__)
