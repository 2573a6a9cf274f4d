"""Questions put to an endpoint before and beside a run, and the client's own pulse."""

import asyncio
import time

import orjson

from loadgen.calibrate import measure
from loadgen.layout import Overhead
from loadgen.text import WordPool
from loadgen.wire import Wire, WireError

ANSWER_BYTES_MAX = 16 << 20
TIMEOUT_S = 30.0
PULSE_S = 0.02
PULSES_MAX = 200_000


class EndpointError(Exception):
    """The endpoint cannot be used; the message says why."""


class Probe:
    """Plain JSON questions over the run's own wire."""

    def __init__(self, wire: Wire, headers: dict[str, str]) -> None:
        self._wire = wire
        self._headers = headers

    async def ask(
        self, method: str, path: str, body: object = None
    ) -> tuple[int, dict[str, object]]:
        """Status and JSON object of an answer; ({}) when the body is no object."""
        parts: list[bytes] = []

        def keep(_: float, data: bytes) -> None:
            parts.append(data)
            if sum(map(len, parts)) > ANSWER_BYTES_MAX:
                raise WireError("bad_http", f"{path}: more than {ANSWER_BYTES_MAX} bytes")

        data = orjson.dumps(body) if body is not None else b""
        try:
            async with asyncio.timeout(TIMEOUT_S):
                done = await self._wire.exchange(method, path, self._headers, data, keep)
        except TimeoutError as error:
            raise EndpointError(f"{path}: no answer in {TIMEOUT_S:g} s") from error
        except WireError as error:
            raise EndpointError(f"{path}: {error}") from error
        try:
            answer = orjson.loads(b"".join(parts))
        except orjson.JSONDecodeError:
            answer = {}
        return done.status, answer if isinstance(answer, dict) else {}

    async def model(self) -> str:
        """The first model that the endpoint serves."""
        status, answer = await self.ask("GET", "/v1/models")
        models = answer.get("data")
        if status != 200 or not isinstance(models, list) or not models:
            raise EndpointError(f"/v1/models names no model (status {status}); give --model")
        first = models[0]
        if not isinstance(first, dict) or not isinstance(first.get("id"), str):
            raise EndpointError("/v1/models has an entry without an id; give --model")
        return str(first["id"])

    async def version(self) -> str | None:
        """What /version says, where there is one."""
        status, answer = await self.ask("GET", "/version")
        version = answer.get("version")
        return version if status == 200 and isinstance(version, str) else None

    async def template(self, model: str, pool: WordPool) -> tuple[Overhead, float] | None:
        """The chat template's overhead and tokens per word; None without /tokenize."""

        async def count(
            messages: list[dict[str, object]], tools: list[object], generation: bool
        ) -> int | None:
            question: dict[str, object] = {
                "model": model,
                "messages": messages,
                "add_generation_prompt": generation,
            }
            if tools:
                question["tools"] = tools
            status, answer = await self.ask("POST", "/tokenize", question)
            tokens = answer.get("count")
            return tokens if status == 200 and isinstance(tokens, int) else None

        return await measure(count, pool)


class Pulse:
    """Wakes up regularly and notes how late: the delay that this process adds by itself. In a long
    run it wakes half as often every time that PULSES_MAX are noted, and keeps every second of
    them, so that what it has is of the whole run, and of all of it alike."""

    def __init__(self) -> None:
        self.lags_s: list[float] = []
        self._pulse_s = PULSE_S

    async def beat(self) -> None:
        while True:
            due = time.monotonic() + self._pulse_s
            await asyncio.sleep(self._pulse_s)
            self.note(max(0.0, time.monotonic() - due))

    def note(self, lag_s: float) -> None:
        self.lags_s.append(lag_s)
        if len(self.lags_s) >= PULSES_MAX:
            del self.lags_s[1::2]
            self._pulse_s *= 2
