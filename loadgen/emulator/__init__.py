"""HTTP emulator of vLLM replicas: the engine model behind vLLM's wire format.

    async with emulated(EmulatorSettings(hbm_tokens=100_000), n=4) as urls: ...

`requests` reads bodies, `replies` invents what the model says, `replica` ties the engine model to
the clock, `answers` writes vLLM's JSON and SSE, `metrics` its /metrics, `app` routes, `fleet`
listens.
"""

from loadgen.emulator.fleet import Fleet, emulated
from loadgen.emulator.settings import EmulatorSettings

__all__ = ["EmulatorSettings", "Fleet", "emulated"]
