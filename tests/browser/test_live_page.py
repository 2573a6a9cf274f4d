"""The live view in a browser: drawn without complaint, at any width, and usable with a key."""

import time
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


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("size", SIZES)
async def test_a_conversation_is_pinned_and_unpinned(size: str, dark: bool) -> None:
    width, height = SIZES[size]
    keys = [{"name": "ops", "sha256": sha256(b"right").hexdigest(), "admin": True}]
    async with (
        emulated(FLEET, 3) as urls,
        proxied(urls, access={"keys": keys}) as running,
        browsing(width=width, height=height, dark=dark) as visit,
    ):
        page, app = visit.page, running.app
        page.on("dialog", lambda dialog: dialog.accept())
        await talk(running.url, range(1, 3), key="right")
        await page.goto(f"{running.url}/admin/")
        await page.locator("#key").click()
        await page.locator("#secret").fill("right")
        await page.get_by_role("button", name="Use it in this tab").click()
        await page.get_by_role("button", name="Pin…").first.wait_for()
        conversation = await page.locator("#sessions tbody td").first.inner_text()
        key = app.live.conversations.find(conversation)
        home = app.router.affinity.home(key, time.monotonic())
        assert home is not None
        other = next(r.id for r in app.router.replicas if r.id != home.replica)
        await page.get_by_role("button", name="Pin…").first.click()
        await visit.picture(f"pinning-{size}-{'dark' if dark else 'light'}", full=False)
        await page.locator("#pin-to").select_option(other)
        await page.get_by_role("button", name="Pin", exact=True).click()
        await page.get_by_text(f"pinned to {other}").wait_for()
        assert list(app.router.pins) == [(key, other)]
        await visit.picture(f"moving-{size}-{'dark' if dark else 'light'}")
        await talk(running.url, range(3, 5), key="right")
        moved = app.router.affinity.home(key, time.monotonic())
        assert moved is not None
        assert moved.replica == other
        await page.get_by_text("pinned here").wait_for()
        unpin = page.get_by_role("button", name="Unpin")
        box = await unpin.bounding_box()
        assert box is not None
        assert box["x"] + box["width"] <= width
        await visit.picture(f"pinned-{size}-{'dark' if dark else 'light'}")
        assert await visit.overflow_px() == 0
        await unpin.click()
        await page.get_by_text("pinned here").wait_for(state="detached")
        assert not app.router.pins
        # Being refused before it had a key is what the browser may complain about.
        assert [said for said in visit.complaints if "401" not in said] == []


LONG = "vllm-qwen3-coder-480b-{n:02d}-x2x9z.inference-production.svc.cluster.local"


async def test_long_names_are_told_apart_and_who_is_not_well_comes_first() -> None:
    # What is said of a replica here no probe contradicts.
    settings = {"admin": {"listen": "127.0.0.1:0"}, "probe": {"interval_s": 600}}
    async with busy_proxy(8, LONG, **settings) as running, browsing() as visit:
        app, page = running.app, visit.page
        assert app.admin_server is not None
        # As people type it.
        await page.goto(f"{app.admin_server.url}/admin")
        await page.wait_for_selector("body[data-ready]")
        shown = await page.locator("#sessions tbody td:nth-child(2) span[title]").all()
        names = {await each.inner_text(): await each.get_attribute("title") for each in shown}
        assert all(LONG.format(n=int(short)) == title for short, title in names.items())
        assert names
        app.probe.trouble[app.router.replicas[7].id] = "/health answered 500"
        app.table.drain(app.router.replicas[7].id)
        first = page.locator(".replica").first
        await first.get_by_text("/health answered 500").wait_for()
        assert LONG.format(n=7) in await first.inner_text()
        await visit.picture("live-long-names")
        assert await visit.overflow_px() == 0
        for replica in app.router.replicas:
            app.table.drain(replica.id)
        await page.locator(".advice.bad").get_by_text("None of 8 replicas takes work").wait_for()
        for replica in list(app.router.replicas):
            app.table.remove(replica.id, 0.0)
        await page.locator(".advice.bad").get_by_text("No replica is known").wait_for()
        await visit.picture("live-no-replica")
        assert visit.complaints == []


async def test_cancelling_pins_nothing_and_a_pin_says_when_it_cannot_hold() -> None:
    async with busy_proxy(2, admin={"listen": "127.0.0.1:0"}) as running, browsing() as visit:
        app, page = running.app, visit.page
        assert app.admin_server is not None
        await page.goto(f"{app.admin_server.url}/admin/")
        await page.get_by_role("button", name="Pin…").first.click()
        await page.keyboard.press("Escape")
        app.router.pins.pin("secret-session-0", app.router.replicas[0].id)
        app.table.drain(app.router.replicas[0].id)
        await page.get_by_text("with its session, which takes no work now").wait_for()
        assert len(app.router.pins) == 1
        # The focus outlasts the drawing of the next state.
        await page.get_by_role("button", name="Unpin").focus()
        await page.wait_for_timeout(2500)
        assert await page.evaluate("document.activeElement.textContent") == "Unpin"
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
