"""A session of each agent, with a sub-agent, ended and resumed, through kvproxy with its defaults:
what the engines report is what kvproxy foretold, and nothing is computed twice."""

import asyncio
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from kvproxy.app import App
from kvproxy.ops.explanations import Kept
from loadgen.emulator import EmulatorSettings, Fleet
from tests.agents import engine
from tests.agents.programs import PROGRAMS, Program
from tests.support.proxies import Running, eventually, proxied, settled

BLOCK = 16
# Prompts of agents are far below it, so nothing is evicted; time passes a hundred times as fast.
ENGINE = EmulatorSettings(hbm_tokens=2_000_000, block_size=BLOCK, time_scale=100.0)
ENDS_S = 300.0
FOLDER = os.environ.get("KVPROXY_AGENTS")

pytestmark = [
    pytest.mark.skipif(FOLDER is None, reason="`make test-agents` gets the agents and runs this"),
    pytest.mark.timeout(3 * ENDS_S),
]


@asynccontextmanager
async def fleet(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tuple[Fleet, Running]]:
    monkeypatch.setattr("loadgen.emulator.generate.Speaker", engine.Scripted)
    replicas = Fleet(ENGINE, 2)
    await replicas.start()
    try:
        async with proxied(replicas.urls, log={"access": False}) as proxy:
            yield replicas, proxy
            await settled(proxy.app)
    finally:
        await replicas.stop()


class Desk:
    """Somebody's folder, where one program works."""

    def __init__(self, program: Program, url: str, home: Path) -> None:
        self._program, self._url, self._home = program, url, home
        self._work = home / "work"
        self._work.mkdir()
        (home / ".codex").mkdir()
        (self._work / "notes.txt").write_text("A line of the notes.\n" * 400)

    async def begin(self, prompt: str) -> str:
        return await self._run(self._program.begin(self._url, prompt))

    async def resume(self, prompt: str) -> str:
        return await self._run(self._program.resume(self._url, prompt))

    async def _run(self, arguments: list[str]) -> str:
        assert FOLDER is not None
        process = await asyncio.create_subprocess_exec(
            self._program.path(Path(FOLDER)),
            *arguments,
            env=self._program.environment(self._url, self._home),
            cwd=self._work,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        try:
            async with asyncio.timeout(ENDS_S):
                printed, _ = await process.communicate()
        except BaseException:
            process.kill()
            raise
        said = printed.decode(errors="replace")
        assert process.returncode == 0, said[-3000:]
        return said


def requests(app: App) -> list[Kept]:
    """Everything that was asked and answered."""
    return [kept for _, kept in app.explanations._kept.items() if kept.usage is not None]


def figures(kept: Kept) -> tuple[int, int, int]:
    """Tokens of the prompt and of what was cached of it, both as reported, and what was foretold of
    the latter."""
    assert kept.usage is not None
    assert kept.decision is not None
    return kept.usage.prompt_tokens, kept.usage.cached_tokens or 0, kept.decision.match.tokens


def show(kept: Sequence[Kept]) -> None:
    for each in kept:
        prompt, cached, foretold = figures(each)
        print(
            f"  {each.evidence} {each.went_on_as or 'new'}: {prompt} tokens, {cached} cached, "
            f"{foretold} foretold"
        )


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.name)
async def test_a_session_computes_nothing_twice(
    program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with fleet(monkeypatch) as (_, (app, url)):
        desk = Desk(program, url, tmp_path)
        assert engine.DONE in await desk.begin(engine.TASK)
        before = len(requests(app))
        assert engine.DONE in await desk.resume(engine.MORE)
        answered = requests(app)
    print(f"\n{program.name}: {len(answered)} requests")
    show(answered)
    assert min(before, len(answered) - before) >= engine.STEPS
    assert all(each.evidence.startswith("header:") for each in answered)
    assert {each.verdict.cause for each in answered} == {""}
    wrong = [each for each in answered if abs(figures(each)[1] - figures(each)[2]) > BLOCK]
    assert len(wrong) <= len(answered) / 10
    # Of a turn that goes on all but the new is there, the last block of the old aside.
    grown = [each for each in answered if each.went_on_as == "grown"]
    assert len(grown) >= 2 * engine.STEPS
    for each in grown:
        assert figures(each)[1] > each.verdict.before_tokens - BLOCK


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.name)
async def test_a_replica_that_dies_ends_no_session(
    program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the middle of its work; what the agent does about an answer that broke off is its own."""
    async with fleet(monkeypatch) as (replicas, (app, url)):
        desk = Desk(program, url, tmp_path)
        session = asyncio.create_task(desk.begin(engine.TASK))
        await eventually(lambda: len(requests(app)) >= engine.DELEGATES_AT, ENDS_S)
        home = home_of(requests(app)[-1])
        await next(each for each in replicas.listeners if each.url.endswith(home)).crash(True)
        assert engine.DONE in await session
        homes = [home_of(each) for each in requests(app)]
    there = homes.count(home)
    print(f"\n{program.name}: {there} answers from it, {len(homes) - there} from the other one")
    assert homes[-1] != home


def home_of(kept: Kept) -> str:
    assert kept.decision is not None
    return kept.decision.replica
