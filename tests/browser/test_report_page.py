"""The report of a load run as a browser shows it, at the sizes and in the colours people use."""

from pathlib import Path

import pytest

from loadgen.output.html import page
from loadgen.output.timeline import timeline
from loadgen.stats import summarise
from tests.support.browser import browsing
from tests.support.made_run import DURATION_S, made_run

CHARTS = 10
SIZES = {"wide": (1280, 900), "phone": (390, 844)}


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> str:
    record, samples, scrapes = made_run()
    file: Path = tmp_path_factory.mktemp("report") / "report.html"
    file.write_text(page(record, timeline(samples, 1.0, DURATION_S, 10.0), scrapes, 1.0), "utf-8")
    return file.as_uri()


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("size", SIZES)
async def test_every_chart_is_drawn_without_complaint(report: str, size: str, dark: bool) -> None:
    width, height = SIZES[size]
    async with browsing(width=width, height=height, dark=dark) as visit:
        await visit.page.goto(report)
        await visit.page.wait_for_selector(f"body[data-ready='{CHARTS}']")
        picture = await visit.picture(f"report-{size}-{'dark' if dark else 'light'}")
        assert await visit.page.locator("canvas").count() == CHARTS
        assert await visit.overflow_px() == 0
        for canvas in await visit.page.locator("figure.chart").all():
            box = await canvas.bounding_box()
            assert box is not None
            assert box["x"] >= 0
            assert box["x"] + box["width"] <= width
        ground = await visit.page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert ground == ("rgb(20, 23, 26)" if dark else "rgb(251, 251, 250)")
        assert await visit.page.locator("#events tbody tr").count() == 2
        assert "<no>" in await visit.page.locator("#events").inner_text()
        assert visit.complaints == []
        assert picture.stat().st_size > 50_000


async def test_names_from_outside_stay_text(report: str) -> None:
    async with browsing() as visit:
        await visit.page.goto(report)
        await visit.page.wait_for_selector("body[data-ready]")
        assert "</script><b>m" in await visit.page.locator("#what").inner_text()
        assert await visit.page.locator("b", has_text="m at").count() == 0
        verdict = await visit.page.locator("#verdict").inner_text()
        assert "A DRAM tier pays" in verdict or "HBM is enough" in verdict


async def test_colours_follow_the_system_while_it_is_open(report: str) -> None:
    async with browsing() as visit:
        await visit.page.goto(report)
        await visit.page.wait_for_selector("body[data-ready]")
        await visit.page.emulate_media(color_scheme="dark")
        await visit.page.set_viewport_size({"width": 500, "height": 800})
        await visit.page.wait_for_timeout(200)
        assert await visit.page.locator("canvas").count() == CHARTS
        assert await visit.overflow_px() == 0
        assert visit.complaints == []


async def test_a_run_of_nothing_has_a_page_too(tmp_path: Path) -> None:
    record, _, _ = made_run()
    summary = record["summary"]
    assert isinstance(summary, dict)
    record |= {"ramp": None, "summary": summary | summarise([], 16)}
    file = tmp_path / "report.html"
    file.write_text(page(record, timeline([], 1.0, 0.0, 10.0), [], 1.0), "utf-8")
    async with browsing() as visit:
        await visit.page.goto(file.as_uri())
        await visit.page.wait_for_selector("body[data-ready]")
        assert visit.complaints == []
