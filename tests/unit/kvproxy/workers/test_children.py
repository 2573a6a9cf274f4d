"""What a child says and when it ends; as processes they are in tests/integration/test_workers."""

import asyncio
import socket
from pathlib import Path

import pytest

from kvproxy.settings.model import Settings
from kvproxy.workers.children import _live
from kvproxy.workers.placement import PlacementApp


async def test_it_says_where_it_listens_and_ends_with_its_supervisor(tmp_path: Path) -> None:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    settings = Settings.model_validate({"replicas": ["http://127.0.0.1:9"]})
    living = asyncio.create_task(_live(lambda: PlacementApp(settings, tmp_path), theirs))
    said = await asyncio.get_running_loop().sock_recv(ours, 4096)
    assert said.decode() == str(tmp_path / "hop")
    assert not living.done()
    ours.close()
    assert await asyncio.wait_for(living, 10) == 0


async def test_what_cannot_start_does_not_stay(tmp_path: Path) -> None:
    ours, theirs = socket.socketpair()
    settings = Settings.model_validate({"replicas": ["http://127.0.0.1:9"]})
    with pytest.raises(OSError, match=r".*"):
        await _live(lambda: PlacementApp(settings, tmp_path / "missing" / "x"), theirs)
    ours.close()
