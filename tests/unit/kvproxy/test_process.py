"""What ends a process before it serves; that it drains: tests/integration/test_shutdown.py."""

import asyncio
import os
import signal
import socket

import pytest

from kvproxy.app import App
from kvproxy.process import _serve
from kvproxy.reload import Load
from kvproxy.settings.model import Settings
from kvproxy.sources import SourceSetupError
from tests.support.proxies import eventually


def settings(port: int = 0) -> Settings:
    tree = {"replicas": ["http://127.0.0.1:9"], "server": {"port": port}, "log": {"access": False}}
    return Settings.model_validate(tree)


async def test_what_cannot_be_set_up_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    def make(settings: Settings, load: Load | None) -> App:
        raise SourceSetupError("no such source")

    assert await _serve(settings(), None, make) == 1
    assert capsys.readouterr().err == "no such source\n"


async def test_a_port_that_is_taken_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        assert await _serve(settings(taken.getsockname()[1]), None, App) == 1
    assert "cannot listen on" in capsys.readouterr().err


async def test_it_says_that_it_is_ready_and_ends_when_told(
    capsys: pytest.CaptureFixture[str],
) -> None:
    before = signal.getsignal(signal.SIGTERM)
    try:
        task = asyncio.create_task(_serve(settings(), None, App))
        await eventually(lambda: "ready http" in capsys.readouterr().out)
        os.kill(os.getpid(), signal.SIGTERM)
        assert await task == 0
    finally:
        signal.signal(signal.SIGTERM, before)
