"""Probes against a replica that comes, goes and lies."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiohttp import web

from kvproxy.adapters.replica_probe import ReplicaProbe
from kvproxy.core.life_cycle import Evidence, Health, LifeLimits
from kvproxy.core.replica import Replica
from tests.support.makers import make_chain, make_replica
from tests.support.proxies import eventually

METRICS = (
    'vllm:cache_config_info{block_size="32",enable_prefix_caching="True",'
    'num_gpu_blocks="100"} 1.0\n'
    "vllm:num_requests_running 3.0\nvllm:num_requests_waiting 2.0\n"
)
MODELS = '{"object":"list","data":[{"id":"m","owned_by":"x"},{"id":"lora"},"junk",{"no":"id"}]}'


class Engine:
    """Pages that a test may change; a status instead of a text is an error."""

    def __init__(self) -> None:
        self.pages: dict[str, str | int] = {
            "/health": "",
            "/metrics": METRICS,
            "/v1/models": MODELS,
        }
        self.keys: list[str | None] = []
        self.asked: list[str] = []
        self.url = ""

    async def answer(self, request: web.BaseRequest) -> web.Response:
        self.keys.append(request.headers.get("authorization"))
        self.asked.append(request.path)
        page = self.pages[request.path]
        return web.Response(status=page) if isinstance(page, int) else web.Response(text=page)


@asynccontextmanager
async def engine() -> AsyncIterator[Engine]:
    made = Engine()
    runner = web.ServerRunner(web.Server(made.answer))
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    made.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield made
    finally:
        await runner.cleanup()


@asynccontextmanager
async def probing(
    *replicas: Replica,
    unhealthy_after: int = 2,
    stall_s: float = 60.0,
    fixed: frozenset[str] = frozenset(),
    keys: dict[str, str] | None = None,
    interval_s: float = 0.002,
    timeout_s: float = 5.0,
) -> AsyncIterator[ReplicaProbe]:
    for replica in replicas:
        replica.life.limits = LifeLimits(unhealthy_after)
    probe = ReplicaProbe(
        replicas,
        interval_s=interval_s,
        timeout_s=timeout_s,
        stall_s=stall_s,
        clock=time.monotonic,
        changed=lambda replica: None,
        fixed_hbm=fixed,
        api_keys=keys or {},
    )
    await probe.start()
    try:
        yield probe
    finally:
        await probe.close()


def starting(made: Engine) -> Replica:
    return make_replica("r0", url=made.url, health=Health.STARTING)


async def test_after_the_start_everything_is_known() -> None:
    async with engine() as made:
        replica = starting(made)
        async with probing(replica, interval_s=60.0) as probe:
            assert replica.health is Health.READY
            assert (replica.hbm_tokens, replica.block_size) == (3200, 32)
            assert replica.hbm.capacity == 3200
            assert (replica.running, replica.waiting) == (3, 2)
            assert replica.models == ("m", "lora")
            assert probe.model_cards["r0"][0] == {"id": "m", "owned_by": "x"}


async def test_those_that_hang_keep_nobody_waiting() -> None:
    async def never(request: web.BaseRequest) -> web.Response:
        await asyncio.sleep(30.0)
        raise AssertionError

    runner = web.ServerRunner(web.Server(never), shutdown_timeout=0.0)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    hanging = [make_replica(f"h{n}", url=url, health=Health.STARTING) for n in range(120)]
    async with engine() as made:
        well = starting(made)
        async with probing(*hanging, well, timeout_s=1.0, interval_s=60.0):
            assert well.health is Health.READY
    await runner.cleanup()


async def test_down_and_up_again_without_its_cache() -> None:
    async with engine() as made:
        replica = starting(made)
        async with probing(replica, unhealthy_after=3):
            chain = make_chain("x" * 640)
            end, _ = replica.hbm.pin(chain.hashes)
            replica.hbm.release(replica.hbm.extend(end, chain.hashes, chain.text_bytes))
            made.pages["/health"] = 503
            await eventually(lambda: replica.health is Health.EJECTED)
            assert replica.hbm.match(chain.hashes) == 0
            made.pages |= {"/health": "", "/v1/models": '{"data":[{"id":"new"}]}'}
            await eventually(lambda: replica.health is Health.PROBING)
            assert replica.models == ("new",)


async def test_one_failure_is_not_down() -> None:
    async with engine() as made:
        replica = starting(made)
        async with probing(replica, unhealthy_after=10**9):
            made.pages["/health"] = 500
            await eventually(lambda: replica.life.strikes(Evidence.PROBE_FAILED) > 2)
            assert replica.health is Health.READY
            made.pages["/health"] = ""
            await eventually(lambda: not replica.life.strikes(Evidence.PROBE_FAILED))


async def test_nobody_there_stays_starting() -> None:
    replica = make_replica("r0", url="http://127.0.0.1:9", health=Health.STARTING)
    async with probing(replica) as probe:
        assert replica.health is Health.STARTING
        assert replica.life.strikes(Evidence.PROBE_FAILED)
        assert "127.0.0.1:9" in probe.trouble["r0"]
        probe.forget(replica)
        assert probe.trouble == {}


async def test_what_is_wrong_is_told_as_long_as_it_is() -> None:
    async with engine() as made:
        replica = starting(made)
        async with probing(replica) as probe:
            assert probe.trouble == {}
            made.pages["/health"] = 503
            await eventually(lambda: "/health answered 503" in probe.trouble.get("r0", ""))
            made.pages["/health"] = ""
            await eventually(lambda: not probe.trouble)


async def test_sizes_from_the_settings_stay() -> None:
    async with engine() as made:
        replica = starting(made)
        async with probing(replica, fixed=frozenset({"r0"}), interval_s=60.0):
            assert replica.hbm_tokens == 100_000
            assert replica.block_size == 32


async def test_without_prefix_caching_nothing_is_held() -> None:
    async with engine() as made:
        made.pages["/metrics"] = METRICS.replace("True", "False")
        replica = starting(made)
        async with probing(replica, interval_s=60.0):
            assert replica.hbm.capacity == 0


BAD_PAGES = [
    ("/v1/models", "not json"),
    ("/v1/models", "[]"),
    ("/v1/models", '{"data":{}}'),
    ("/v1/models", 500),
    ("/metrics", "vllm:num_requests_running e"),
    ("/metrics", "vllm:num_requests_running 1e999"),
    ("/metrics", "x" * (8 * 2**20 + 1)),
    ("/metrics", 404),
]


@pytest.mark.parametrize(("path", "page"), BAD_PAGES, ids=lambda value: str(value)[:30])
async def test_bad_pages_are_failed_probes_until_they_are_good(path: str, page: str | int) -> None:
    async with engine() as made:
        good = made.pages[path]
        made.pages[path] = page
        replica = starting(made)
        async with probing(replica):
            assert replica.health is Health.STARTING
            assert replica.life.strikes(Evidence.PROBE_FAILED)
            made.pages[path] = good
            await eventually(lambda: replica.health is Health.READY)


async def test_keys_are_sent_to_their_replica_alone() -> None:
    async with engine() as one, engine() as other:
        replicas = [make_replica("r0", url=one.url), make_replica("r1", url=other.url)]
        async with probing(*replicas, keys={"r0": "secret"}, interval_s=60.0):
            assert set(one.keys) == {"Bearer secret"}
            assert set(other.keys) == {None}


async def test_models_are_not_asked_for_each_time() -> None:
    async with engine() as made:
        async with probing(make_replica("r0", url=made.url)):
            await eventually(lambda: made.asked.count("/metrics") > 5)
        assert made.asked.count("/v1/models") == 1


async def test_one_that_does_not_answer_at_first_is_named_once_with_what_to_do(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("kvproxy"), "propagate", True)
    async with engine() as made:
        made.pages["/health"] = 503
        replica = make_replica("r", url=made.url, health=Health.STARTING)
        async with probing(replica):
            await eventually(lambda: len(made.asked) > 4)
            warned = [r.message for r in caplog.records if r.levelno == logging.WARNING]
            assert len(warned) == 1
            assert "replica r does not answer yet: ValueError: /health answered 503" in warned[0]
            assert f"kvproxy doctor --replica {made.url}" in warned[0]
            made.pages["/health"] = ""
            await eventually(lambda: replica.health is Health.READY)
