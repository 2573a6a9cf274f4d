"""`kvproxy top` in a real terminal: drawn again and again within its size, ended by Ctrl-C."""

import asyncio
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.browser import PICTURES
from tests.support.traffic import busy_proxy, talk

SIZES = {"wide": (140, 45), "narrow": (80, 24)}
NAMED = "vllm-{n}.vllm.inference.svc.cluster.local:8000"
WAIT_S = 30.0
Wrong = Callable[[str], str]


class Terminal:
    """A tmux server of its own, on its own socket."""

    def __init__(self, socket: Path) -> None:
        self._tmux = ["tmux", "-u", "-S", str(socket), "-f", "/dev/null"]

    def run(self, *arguments: str) -> str:
        done = subprocess.run(
            [*self._tmux, *arguments], check=True, capture_output=True, text=True, timeout=10
        )
        return done.stdout

    async def shows(self, *wanted: str, wrong: Wrong = lambda screen: "") -> str:
        """The screen, once all of `wanted` stand on it and nothing is `wrong` with it: what is
        looked at may be half drawn."""
        screen = ""
        async with asyncio.timeout(WAIT_S):
            try:
                while not all(text in screen for text in wanted) or wrong(screen):
                    await asyncio.sleep(0.2)
                    screen = await asyncio.to_thread(self.run, "capture-pane", "-p")
            except asyncio.CancelledError:
                raise AssertionError(
                    f"{wanted} {wrong(screen)}: never stood on\n{screen}"
                ) from None
        return screen


def wrong_with(screen: str, width: int) -> str:
    """Names are whole and told apart, where replicas are described and where they were chosen."""
    above, _, below = screen.partition("latest decisions")
    chosen = below.strip().splitlines()[1:]
    checks = {
        "an exception": "Traceback" not in screen,
        "too wide": max(map(len, screen.splitlines()), default=0) <= width,
        "replicas": all(
            len(re.findall(rf"^vllm-{n} .*\bready\b", above, re.MULTILINE)) == 1 for n in range(3)
        ),
        "cut": "…" not in above,
        "decisions": len(chosen) >= 3 and all(re.match(r"vllm-[012] ", line) for line in chosen),
    }
    return ", ".join(name for name, holds in checks.items() if not holds)


@pytest.mark.parametrize("size", SIZES)
async def test_top_is_drawn_and_ends_with_ctrl_c(size: str, tmp_path: Path) -> None:
    if shutil.which("tmux") is None:
        pytest.skip("no tmux: `make test-browser` installs it")
    width, height = SIZES[size]
    terminal = Terminal(tmp_path / "tmux")
    async with busy_proxy(named=NAMED) as running:
        # The terminal says its size, not what the tests were started with.
        top = f"unset COLUMNS LINES; {sys.executable} -m kvproxy top --interval 0.5"
        top += f" --url {running.url}; echo ended $?"
        start = ["new-session", "-d", "-x", str(width), "-y", str(height), f"{top}; exec sh"]
        await asyncio.to_thread(terminal.run, *start)
        try:
            await terminal.shows("hit rate", "latest decisions")
            await talk(running.url, range(4, 6))
            screen = await terminal.shows(
                "requests 30", wrong=lambda screen: wrong_with(screen, width)
            )
            PICTURES.mkdir(parents=True, exist_ok=True)
            (PICTURES / f"top-{size}.txt").write_text(screen)
            await asyncio.to_thread(terminal.run, "send-keys", "C-c")
            assert "Traceback" not in await terminal.shows("ended ")
        finally:
            await asyncio.to_thread(terminal.run, "kill-server")
