"""Asks a real engine every request we know and keeps its answers, for the emulator to be held to.

`python -m tests.support.realstack.record` needs what `make test-vllm` installs and writes
tests/golden/vllm_answers.jsonl.
"""

import asyncio
import os
import re
import signal
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import orjson

from tests.support.golden import ANSWERS, Golden
from tests.support.realstack.answered import ANSWERED, BROKEN, ENGINE_ONLY
from tests.support.realstack.engine import MODEL, Engine, replica
from tests.support.realstack.places import default_places
from tests.support.realstack.refused import REFUSED, REFUSED_BY_US
from tests.support.realstack.requests import Case
from tests.support.wire import ask, request

# Else a model of random weights, told to write JSON, writes white space for ever.
_COMPACT = (
    "--structured-outputs-config",
    '{"disable_any_whitespace": true, "backend": "xgrammar"}',
)
_CALLS_TRIED = 60
_KEPT_OF_BROKEN = 4  # events from either end of a stream that was cut


async def record() -> int:
    async with replica(default_places(), 0, options=_COMPACT) as engine:
        kept = [golden async for golden in _answers(engine)]
    lines = [orjson.dumps(golden) for golden in kept]
    ANSWERS.write_bytes(b"\n".join(lines) + b"\n")
    print(f"{len(kept)} answers, {sum(map(len, lines))} bytes in {ANSWERS}")
    return 0


async def _answers(engine: Engine) -> AsyncIterator[Golden]:
    for case in [*ANSWERED, *ENGINE_ONLY, *REFUSED, *REFUSED_BY_US]:
        answer = await _ask(engine.url, case)
        for _ in range(_CALLS_TRIED if case.calls_once else 0):
            if _is_one_call(answer.body):
                break
            answer = await _ask(engine.url, case)
        yield answer
    streams = [asyncio.create_task(_ask(engine.url, case)) for case in BROKEN]
    await asyncio.sleep(1.0)  # all of them speak by then, and for some seconds more
    os.kill(_engine_core(), signal.SIGKILL)
    for stream in streams:
        answer = await stream
        events = answer.body.split("\n\n")
        kept = events[:_KEPT_OF_BROKEN] + events[-_KEPT_OF_BROKEN:]
        yield replace(answer, body="\n\n".join(kept))


async def _ask(url: str, case: Case) -> Golden:
    raw = request(case.method, case.path, list(case.headers.items()), case.bytes())
    answer = await ask(url, raw)
    headers = sorted((name.decode(), value.decode()) for name, value in answer.headers)
    body = answer.body.decode().replace(str(default_places().model), MODEL)
    return Golden(case.name, answer.status, headers, body, answer.complete)


def _is_one_call(body: str) -> bool:
    """One tool was called, and the call was not cut short."""
    calls = set(re.findall("chatcmpl-tool-[0-9a-f]+", body))
    return len(calls) == 1 and not re.search('"(length|max_tokens|incomplete)"', body)


def _engine_core() -> int:
    """The process below us that computes, not the one that answers."""
    for folder in Path("/proc").glob("[0-9]*"):
        pid = int(folder.name)
        if _command(pid).startswith("VLLM::EngineCore") and os.getpid() in _ancestors(pid):
            return pid
    raise AssertionError("the engine has no core process")


def _ancestors(pid: int) -> list[int]:
    found = []
    while pid > 1:
        status = Path(f"/proc/{pid}/stat").read_text()
        pid = int(status.rpartition(")")[2].split()[1])
        found.append(pid)
    return found


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return ""


if __name__ == "__main__":
    sys.exit(asyncio.run(record()))
