"""HTTP emulator of vLLM replicas: the engine model behind vLLM's wire format.

    async with emulated(EmulatorSettings(hbm_tokens=100_000), n=4) as urls: ...

`requests`, `messages_requests` and `responses_requests` read bodies, `replies` invents what the
model says, `replica` ties the engine model to the clock, the writers in `*_answers` make vLLM's
JSON and SSE of it, `metrics` its /metrics, `generation` and `app` route, `fleet` listens.
"""

from loadgen.emulator.fleet import Fleet, emulated
from loadgen.emulator.settings import EmulatorSettings

__all__ = ["EmulatorSettings", "Fleet", "emulated"]
