"""Model of an inference engine replica in virtual time: the public names.

    engine = Engine(EngineRates(), EngineLimits())
    engine.submit(Request("a", chain, prompt_tokens=100, output_tokens=8), now=0.0)
    while (at := engine.next_event_time()) is not None:
        for emission in engine.advance(at): ...

`ChainHasher` makes the chain of a request from its token ids.
"""

from loadgen.engine.engine import Engine
from loadgen.engine.hashing import ChainHasher
from loadgen.engine.messages import (
    Admitted,
    Emission,
    Finished,
    FinishReason,
    FirstToken,
    Gauges,
    Request,
    Tokens,
)
from loadgen.engine.rates import EngineLimits, EngineRates

__all__ = [
    "Admitted",
    "ChainHasher",
    "Emission",
    "Engine",
    "EngineLimits",
    "EngineRates",
    "FinishReason",
    "Finished",
    "FirstToken",
    "Gauges",
    "Request",
    "Tokens",
]
