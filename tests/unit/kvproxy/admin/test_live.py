import json
from typing import Any

import aiohttp

from kvproxy.admin import live
from tests.support.proxies import eventually
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


async def test_an_outage_is_told_before_any_advice() -> None:
    """A fleet that is not there has no conversations that its memory could be too small for."""
    async with busy_proxy(2) as running:
        app = running.app

        async def told() -> dict[str, Any]:
            return json.loads((await app.live.page("")).body)  # type: ignore[no-any-return]

        assert (await told())["outage"] == ""
        for replica in app.router.replicas:
            app.table.drain(replica.id)
        assert "None of 2 replicas takes work" in (await told())["outage"]
        for replica in list(app.router.replicas):
            app.table.remove(replica.id, 0.0)
        await eventually(lambda: not app.router.replicas)
        assert "No replica is known" in (await told())["outage"]


async def test_nothing_is_kept_while_nobody_looks() -> None:
    async with busy_proxy(1) as running:
        running.app.live._seen.clear()
        running.app.live._watched_until -= live.WATCHED_S * 2
        async with aiohttp.ClientSession() as session:
            body = {"model": "emu", "messages": [{"role": "user", "content": "Hi."}]}
            async with session.post(f"{running.url}/v1/chat/completions", json=body) as answer:
                await answer.read()
        assert not running.app.live._seen
