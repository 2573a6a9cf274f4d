"""`python -m tests.soak.objects` finds what every request leaves."""

from typing import Any

import pytest

from kvproxy.adapters.http1.listener import HttpServer
from tests.soak.objects import Found, grown


@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_a_planted_leak_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """That nothing is found where nothing leaks is what `make test-soak` shows."""
    kept: list[bytes] = []
    begin = HttpServer.begin

    def leaking(*given: Any) -> None:
        kept.append(b"%0200d" % len(kept))
        begin(*given)

    monkeypatch.setattr(HttpServer, "begin", leaking)
    found = await grown(2_000, 2_000)
    print(found)
    assert found.a_request > 0.9
    assert found.grows


def test_a_few_more_are_no_leak() -> None:
    assert not Found(250_000, 251_000, 18_000).grows
    assert Found(250_000, 252_000, 18_000).grows
    assert Found(250_000, 268_000, 18_000).grows
