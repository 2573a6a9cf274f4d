import asyncio
import time

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from loadgen.output.scrape import Scraped, Scraper, read_page, unread

PAGE = """\
# HELP vllm:num_requests_running Running.
vllm:num_requests_running{engine="0",model_name="m"} 3.0
vllm:num_requests_waiting{engine="0",model_name="m"} 2.0
vllm:kv_cache_usage_perc{engine="0"} 0.25
vllm:prefix_cache_hits_total{engine="0"} 100
vllm:prefix_cache_hits_total{engine="1"} 20
vllm:external_prefix_cache_hits_total{engine="0"} 7
vllm:prompt_tokens_total{engine="0"} 1e3
vllm:prompt_tokens_created{engine="0"} 1.7e9
vllm:cache_config_info{block_size="16",num_gpu_blocks="10",enable_prefix_caching="True"} 1.0
"""


def test_a_page_is_read() -> None:
    assert read_page(PAGE, "r", 1.5) == Scraped(
        1.5, "r", running=3, waiting=2, hbm_tokens=160, kv_usage=0.25, prompt_tokens=1000.0,
        hbm_hits=120.0, dram_hits=7.0,
    )  # fmt: skip


async def test_every_replica_is_asked_and_a_dead_one_said_to_be(
    monkeypatch: pytest.MonkeyPatch, unused_tcp_port: int
) -> None:
    monkeypatch.setattr("loadgen.output.scrape.INTERVAL_S", 0.0)
    answers = [web.Response(text=PAGE), web.Response(status=503)]
    third = asyncio.Event()

    async def metrics(request: web.Request) -> web.Response:
        if answers:
            return answers.pop(0)
        third.set()
        await asyncio.Event().wait()
        raise AssertionError("unreachable")

    app = web.Application()
    app.router.add_get("/metrics", metrics)
    server = TestServer(app)
    await server.start_server()
    url = str(server.make_url("")).rstrip("/")
    scraper = Scraper([url, f"http://127.0.0.1:{unused_tcp_port}"], time.monotonic())
    task = asyncio.create_task(scraper.run())
    async with asyncio.timeout(10):
        await third.wait()
    task.cancel()
    await asyncio.wait([task])
    await server.close()
    alive = [one for one in scraper.found if one.replica == url.removeprefix("http://")]
    dead = [one for one in scraper.found if one.replica.endswith(f":{unused_tcp_port}")]
    assert (alive[0].running, alive[0].error) == (3, "")
    assert alive[1].error == "status 503"
    assert all(one.error for one in dead)


def test_pages_that_were_not_read_are_told() -> None:
    lost = Scraped(4.0, "b:1", error="connection refused")
    found = [Scraped(0.0, "a:1"), Scraped(0.0, "b:1"), lost, lost]
    assert unread(found) == ["2 of 3 pages of b:1 were not read: connection refused"]
    assert unread([]) == []
