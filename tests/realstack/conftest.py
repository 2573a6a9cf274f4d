"""One set of real engines at a time, started when the first test asks for it."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.support.realstack.budget import NOT_READY, OUT_OF_TIME, left_s
from tests.support.realstack.engine import Engine
from tests.support.realstack.fleet import Fleet, Tiered
from tests.support.realstack.install import TEMPORARY_FAILURE, is_installed
from tests.support.realstack.places import default_places


def pytest_runtest_setup() -> None:
    if left_s() <= 0:
        pytest.skip(OUT_OF_TIME)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """A run that was cut short by a busy machine has not passed; nor has it failed."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    skipped = reporter.stats.get("skipped", []) if reporter is not None else []
    cut = [r for r in skipped if any(why in str(r.longrepr) for why in (OUT_OF_TIME, NOT_READY))]
    if cut and session.exitstatus == pytest.ExitCode.OK:
        print(f"\n{len(cut)} tests were not run: this machine is too busy for them")
        session.exitstatus = TEMPORARY_FAILURE


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def fleet() -> AsyncIterator[Fleet]:
    places = default_places()
    if not is_installed(places):
        pytest.skip("no real engine is installed: run `make test-vllm`")
    async with Fleet(places) as fleet:
        yield fleet


@pytest_asyncio.fixture(loop_scope="session")
async def engines(fleet: Fleet) -> list[Engine]:
    """Two replicas with nothing behind their HBM, their caches empty."""
    engines = await fleet.plain()
    for engine in engines:
        await engine.reset_cache()
    return engines


@pytest_asyncio.fixture(loop_scope="session")
async def tiered(fleet: Fleet) -> Tiered:
    """Two replicas that each store into an LMCache server of their own; their HBM is empty."""
    tiered = await fleet.tiered()
    for engine in tiered.engines:
        await engine.reset_cache()
    return tiered


@pytest_asyncio.fixture(loop_scope="session")
async def handing(fleet: Fleet) -> list[Engine]:
    """Two replicas that hand KV to each other; their caches are empty."""
    engines = await fleet.handing()
    for engine in engines:
        await engine.reset_cache()
    return engines
