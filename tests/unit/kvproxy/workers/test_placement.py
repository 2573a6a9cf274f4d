"""The placement process alone; with a worker it is in test_worker."""

from pathlib import Path

from kvproxy.core import hop
from kvproxy.core.claims import Told
from kvproxy.core.life_cycle import Health
from kvproxy.core.types import Identity
from kvproxy.settings.model import Settings
from kvproxy.workers.placement import PlacementApp
from tests.support.makers import make_chain


def app(folder: Path) -> PlacementApp:
    return PlacementApp(Settings.model_validate({"replicas": ["http://127.0.0.1:9"]}), folder)


async def test_it_listens_where_another_one_died(tmp_path: Path) -> None:
    (tmp_path / "hop").touch()
    placement = app(tmp_path)
    assert await placement.start() == str(tmp_path / "hop")
    await placement.stop()


async def test_workers_are_told_how_replicas_are(tmp_path: Path) -> None:
    placement = app(tmp_path)
    (replica,) = placement.router.replicas
    replica.life.health, replica.models = Health.READY, ("m",)
    (state,) = placement._states()
    assert (state.id, state.health, state.models) == (replica.id, "ready", ("m",))


async def test_prompts_that_are_told_are_asked_about(tmp_path: Path) -> None:
    placement = app(tmp_path)
    (replica,) = placement.router.replicas
    replica.life.health = Health.READY
    chain = make_chain("hello " * 50)
    placed = placement.router.place(Identity("t", "m", "s"), chain, 1.0)
    placement._told(Told(placed, 80, "", "/v1/chat/completions", b"{}"))
    (prompt,) = placement.sources.prompts._pending
    assert (prompt.model, prompt.prompt_tokens, prompt.request.body) == ("m", 80, b"{}")


async def test_pages_show_all_workers(tmp_path: Path) -> None:
    placement = app(tmp_path)
    placement._figures.heard("w", {"kvproxy_requests": [(["r", "ok"], [3.0])]})
    page = await placement._show(hop.Show(1, "GET", "/metrics", {}, b""))
    assert b'kvproxy_requests_total{outcome="ok",replica="r"} 3.0' in page.body
    assert b"kvproxy_workers 0.0" in page.body
    assert (
        await placement._show(hop.Show(1, "GET", "/admin/explain?request_id=x", {}, b""))
    ).status == 404
