"""As many objects live after many requests as before them, and a leak of some each is seen."""

from typing import Any

import pytest

from kvproxy.adapters.http1.listener import HttpServer
from tests.soak.objects import Found, grown


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("leaks", [False, True])
async def test_a_planted_leak_is_found(leaks: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[bytes] = []
    begin = HttpServer.begin

    def leaking(*given: Any) -> None:
        kept.append(b"%0200d" % len(kept))
        begin(*given)

    if leaks:
        monkeypatch.setattr(HttpServer, "begin", leaking)
    found = await grown(2_000, 8_000)
    print(found)
    assert found.grows is leaks


def test_a_few_more_are_no_leak() -> None:
    assert not Found(250_000, 251_000, 18_000).grows
    assert Found(250_000, 252_000, 18_000).grows
    assert Found(250_000, 268_000, 18_000).grows
