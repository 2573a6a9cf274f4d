"""The live view in a browser: drawn without complaint, at any width, and usable with a key."""

from hashlib import sha256

import pytest

from loadgen.emulator import emulated
from tests.support.browser import browsing
from tests.support.proxies import proxied
from tests.support.traffic import FLEET, busy_proxy, talk

SIZES = {"wide": (1280, 900), "phone": (390, 844)}


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("size", SIZES)
async def test_it_is_drawn_without_complaint(size: str, dark: bool) -> None:
    width, height = SIZES[size]
    window = browsing(width=width, height=height, dark=dark)
    async with busy_proxy() as running, window as visit:
        await visit.page.goto(f"{running.url}/admin/")
        await visit.page.wait_for_selector("body[data-ready]")
        await talk(running.url, range(4, 6))
        await visit.page.wait_for_timeout(4500)
        await visit.picture(f"live-{size}-{'dark' if dark else 'light'}")
        assert await visit.overflow_px() == 0
        assert await visit.page.locator("canvas").count() == 3
        assert await visit.page.locator(".replica").count() == 3
        assert await visit.page.locator("#decisions tbody tr").count() == 30
        assert await visit.page.locator("#sessions tbody tr").count() == 6
        assert visit.complaints == []


async def test_a_replica_is_drained_with_an_admin_key() -> None:
    keys = [{"name": "ops", "sha256": sha256(b"right").hexdigest(), "admin": True}]
    async with (
        emulated(FLEET, 2) as urls,
        proxied(urls, access={"keys": keys}) as running,
        browsing() as visit,
    ):
        visit.page.on("dialog", lambda dialog: dialog.accept())
        await visit.page.goto(f"{running.url}/admin/")
        await visit.page.locator("#key").click()
        await visit.page.locator("#secret").fill("right")
        await visit.page.get_by_role("button", name="Use it in this tab").click()
        await visit.page.wait_for_selector(".replica")
        await visit.page.locator(".replica button").first.click()
        await visit.page.get_by_role("button", name="Undrain").wait_for()
        assert running.app.router.replicas[0].health == "draining"
