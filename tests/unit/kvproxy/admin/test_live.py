import json

import aiohttp

from kvproxy.admin import live
from tests.support.traffic import busy_proxy


async def test_the_state_of_this_moment() -> None:
    async with (
        busy_proxy() as running,
        aiohttp.ClientSession() as session,
        session.get(f"{running.url}/admin/live") as answer,
    ):
        text = await answer.text()
    state = json.loads(text)
    totals = state["totals"]
    assert (totals["requests"], totals["failed"]) == (18, 0)
    assert 0 < totals["reported_tokens"] <= totals["prompt_tokens"]
    assert state["ttft"]["count"] == 18
    assert len(state["replicas"]) == 3
    assert sum(row["sessions"] for row in state["replicas"]) == state["session_count"] == 6
    assert {row["replica"] for row in state["sessions"]} <= {row["id"] for row in state["replicas"]}
    assert len(state["decisions"]) == 18
    newest = state["decisions"][0]
    assert newest["cached_tokens"] > 0
    assert "queue_s" in newest["terms"]
    assert "secret-session" not in text


async def test_nothing_is_kept_while_nobody_looks() -> None:
    async with busy_proxy(1) as running:
        running.app.live._seen.clear()
        running.app.live._watched_until -= live.WATCHED_S * 2
        async with aiohttp.ClientSession() as session:
            body = {"model": "emu", "messages": [{"role": "user", "content": "Hi."}]}
            async with session.post(f"{running.url}/v1/chat/completions", json=body) as answer:
                await answer.read()
        assert not running.app.live._seen
