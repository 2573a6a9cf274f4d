import asyncio
import logging

import pytest

from kvproxy.admin.regime_watch import RegimeWatch
from kvproxy.core.router import Router
from tests.support.makers import make_replica, make_router


def crowd(router: Router, tokens: int) -> None:
    router.working_set.touch("session", "r0", tokens, 0.0)


def test_a_change_is_said_once_and_only_if_it_lasts(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "kvproxy.regime")
    router = make_router([make_replica("r0", hbm_tokens=1000)])
    watch = RegimeWatch(router, lambda: 0.0, 60.0)
    watch.look()
    crowd(router, 5000)
    watch.look()
    crowd(router, 10)
    watch.look()
    watch.look()
    assert caplog.records == []
    crowd(router, 5000)
    for _ in range(4):
        watch.look()
    (record,) = caplog.records
    assert "DRAM tier pays" in record.getMessage()
    assert record.fields["regime"] == "dram_pays"  # type: ignore[attr-defined]


async def test_it_looks_by_itself_until_closed() -> None:
    looked = asyncio.Event()

    def clock() -> float:
        looked.set()
        return 0.0

    watch = RegimeWatch(make_router(1), clock, 0.001)
    watch.start()
    await asyncio.wait_for(looked.wait(), 10)
    await watch.close()
    await RegimeWatch(make_router(1), clock, 1.0).close()
