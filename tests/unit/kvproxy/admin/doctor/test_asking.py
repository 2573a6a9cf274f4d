import aiohttp
import pytest

from kvproxy.admin.doctor import asking
from kvproxy.admin.doctor.asking import Asker, why
from loadgen.emulator import EmulatorSettings, emulated


async def test_pages_come_with_status_and_head() -> None:
    async with emulated(EmulatorSettings()) as [url], aiohttp.ClientSession() as session:
        asker = Asker(session, {url: "secret"})
        page = await asker.get(url, "/version")
        assert page.ok
        assert "Date" in page.headers
        missing = await asker.post(url, "/nowhere", b"{}", x_request_id="1")
        assert (missing.ok, missing.status) == (False, 404)


async def test_a_page_without_end_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "PAGE_BYTES_MAX", 100)
    async with emulated(EmulatorSettings()) as [url], aiohttp.ClientSession() as session:
        with pytest.raises(ValueError, match="larger than 100 bytes"):
            await Asker(session, {}).get(url, "/metrics")


def test_why() -> None:
    assert why(TimeoutError(), "http://r") == "http://r: TimeoutError"
