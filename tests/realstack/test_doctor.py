"""The doctor finds nothing wrong with real engines that are set up well, and names what is not."""

import pytest

from kvproxy.admin.doctor.diagnose import diagnose
from kvproxy.admin.doctor.examine import Order, examine
from kvproxy.admin.doctor.finding import Finding, Severity
from tests.support.realstack.engine import Engine
from tests.support.realstack.fleet import Tiered

pytestmark = [
    pytest.mark.realstack,
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.timeout(900),
]


async def _grave(engines: list[Engine], **more: object) -> list[Finding]:
    """Warnings and errors; 16-bit KV on a CPU is but a note."""
    urls = {engine.url: f"r{n}" for n, engine in enumerate(engines)}
    order = Order(urls, probing=True, **more)  # type: ignore[arg-type]
    fleet = await examine(order, print)
    for replica in fleet.replicas:
        print(replica.id, replica.version, replica.probe)
    found = diagnose(fleet)
    for finding in found:
        print(finding.severity.name, finding.code, finding.evidence)
    return [finding for finding in found if finding.severity > Severity.NOTE]


async def test_nothing_is_wrong_with_plain_replicas(engines: list[Engine]) -> None:
    assert await _grave(engines) == []


async def test_nor_with_lmcache_behind_them(tiered: Tiered) -> None:
    """But for its size: the test's DRAM is made small on purpose, and still larger than HBM."""
    found = await _grave(tiered.engines, coordinator_url=tiered.coordinator_url)
    assert found == []
