import re

import aiohttp

from kvproxy.admin.page_files import page_routes
from tests.support.proxies import proxied


async def test_the_page_loads_nothing_that_is_not_served_here() -> None:
    routes = page_routes()
    html = (await routes["/admin/"]("")).body.decode()
    loaded = re.findall(r'(?:src|href)="([^"]+)"', html)
    assert {f"/admin/{name}" for name in loaded if name != "data:,"} <= set(routes)
    assert "default-src 'none'" in html
    assert "<script>" not in html
    assert " style=" not in html


async def test_the_path_that_people_type_leads_there() -> None:
    async with proxied(["http://127.0.0.1:1"]) as running, aiohttp.ClientSession() as session:
        async with session.get(f"{running.url}/admin", allow_redirects=False) as answer:
            assert (answer.status, answer.headers["location"]) == (308, "admin/")
        async with session.get(f"{running.url}/admin") as answer:
            assert (answer.status, str(answer.url)) == (200, f"{running.url}/admin/")


async def test_files_are_open_and_what_they_show_is_not() -> None:
    keys = [{"name": "ops", "sha256": "0" * 64, "admin": True}]
    alone = proxied(["http://127.0.0.1:1"], access={"keys": keys})
    async with alone as running, aiohttp.ClientSession() as session:
        for path, status in (("/admin/", 200), ("/admin/live.js", 200), ("/admin/live", 401)):
            async with session.get(running.url + path) as answer:
                assert answer.status == status, path
