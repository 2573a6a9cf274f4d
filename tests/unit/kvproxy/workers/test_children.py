"""What a child says and when it ends; as processes they are in tests/integration/test_workers."""

import asyncio
import signal
import socket
from collections.abc import Callable
from pathlib import Path
from typing import cast

import pytest

from kvproxy.app import App
from kvproxy.settings.model import Settings
from kvproxy.workers import children
from kvproxy.workers.children import _live
from kvproxy.workers.placement import PlacementApp

SETTINGS = Settings.model_validate({"replicas": ["http://127.0.0.1:9"]})


async def test_it_says_where_it_listens_and_ends_with_its_supervisor(tmp_path: Path) -> None:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    living = asyncio.create_task(_live(lambda: PlacementApp(SETTINGS, tmp_path), theirs, 0.0))
    said = await asyncio.get_running_loop().sock_recv(ours, 4096)
    assert said.decode() == str(tmp_path / "hop")
    assert not living.done()
    ours.close()
    assert await asyncio.wait_for(living, 10) == 0


async def test_what_cannot_start_does_not_stay(tmp_path: Path) -> None:
    ours, theirs = socket.socketpair()
    with pytest.raises(OSError, match=r".*"):
        await _live(lambda: PlacementApp(SETTINGS, tmp_path / "missing" / "x"), theirs, 0.0)
    ours.close()


class Fake:
    """An app that starts and stops as it is told to."""

    def __init__(self, life: socket.socket, *, starts: bool = True) -> None:
        self.life = life
        self.starts = starts
        self.calls: list[str] = []

    async def start(self) -> str:
        if not self.starts:
            await asyncio.Event().wait()
        return "there"

    async def stop(self) -> None:
        loop = asyncio.get_running_loop()
        # Who watches a socket at its end is called again and again.
        self.calls.append(f"watched {loop.remove_reader(self.life)}")
        self.calls.append(f"terminated {loop.remove_signal_handler(signal.SIGTERM)}")
        self.calls.append(f"due {signal.alarm(0)}")

    async def close(self) -> None:
        self.calls.append("closed")


def making(fake: Fake) -> Callable[[], App]:
    return lambda: cast(App, fake)


async def test_an_orphan_waits_idly_obeys_and_has_a_limit() -> None:
    ours, theirs = socket.socketpair()
    fake = Fake(theirs)
    living = asyncio.create_task(_live(making(fake), theirs, 7.5))
    await asyncio.sleep(0)
    ours.close()
    assert await asyncio.wait_for(living, 5) == 0
    assert fake.calls == ["watched False", "terminated False", f"due {15 + children._MARGIN_S:.0f}"]


async def test_a_start_that_takes_for_ever_ends_with_the_supervisor() -> None:
    ours, theirs = socket.socketpair()
    fake = Fake(theirs, starts=False)
    living = asyncio.create_task(_live(making(fake), theirs, 0.0))
    await asyncio.sleep(0.01)
    ours.close()
    assert await asyncio.wait_for(living, 5) == 0
    assert fake.calls == ["closed"]


@pytest.mark.parametrize("file", ["", "nothing here"])
def test_what_is_wrong_is_said_without_a_traceback(
    tmp_path: Path, file: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "cert").write_text(file)
    server = {"port": 0, "workers": 2, "tls_cert": str(tmp_path / "cert")}
    settings = Settings.model_validate({"replicas": ["http://127.0.0.1:9"], "server": server})
    ours, theirs = socket.socketpair()
    assert children.serve(settings, tmp_path, None, theirs) == 1
    said = capsys.readouterr().err
    assert str(tmp_path / "cert") in said
    assert "Traceback" not in said
    ours.close()
