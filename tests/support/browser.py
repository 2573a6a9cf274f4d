"""A real browser for tests: `python -m tests.support.browser` gets it, `browsing` opens a page.

Chromium is Debian's headless shell, driven by Playwright, whose own browser download is not needed.
Installing exits 75 where either cannot be had. A test that uses `browsing` is skipped without them.
"""

import contextlib
import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.debian import apt_get

if TYPE_CHECKING:
    from playwright.async_api import Page
else:
    Page = Any

DEBIAN_PACKAGE = "chromium-headless-shell"
# With letters, or every picture shows empty boxes.
FONTS = "fonts-dejavu-core"
DRIVER = "playwright>=1.49"
NAMES = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
PICTURES = Path(os.environ.get("KVPROXY_PICTURES", "out/browser"))
TEMPORARY_FAILURE = 75
APT_TIMEOUT_S = 300


@dataclass(slots=True)
class Visit:
    """An open page and everything it complained about: console errors and warnings, exceptions,
    requests that failed."""

    page: Page
    complaints: list[str] = field(default_factory=list)

    async def picture(self, name: str, *, full: bool = True) -> Path:
        """A PNG of the page under out/browser/, for a person to look at."""
        path = PICTURES / f"{name}.png"
        await self.page.screenshot(path=path, full_page=full)
        return path

    async def overflow_px(self) -> int:
        """How far the page is wider than its window: 0 unless it scrolls sideways."""
        script = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        return int(await self.page.evaluate(script))


@contextlib.asynccontextmanager
async def browsing(
    *, width: int = 1280, height: int = 900, dark: bool = False
) -> AsyncIterator[Visit]:
    """A page of a fresh browser, closed with it. Skips the test where there is none."""
    program = executable()
    if program is None or not _has_driver():
        pytest.skip("no browser: `make test-browser` installs one")
    from playwright.async_api import async_playwright

    arguments = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
    async with async_playwright() as driver:
        browser = await driver.chromium.launch(executable_path=program, args=arguments)
        try:
            page = await browser.new_page(
                viewport={"width": width, "height": height},
                color_scheme="dark" if dark else "light",
            )
            visit = Visit(page)
            _listen(page, visit.complaints)
            yield visit
        finally:
            await browser.close()


def _listen(page: Page, complaints: list[str]) -> None:
    def said(message: Any) -> None:
        if message.type in ("error", "warning"):
            complaints.append(f"{message.type}: {message.text}")

    page.on("console", said)
    page.on("pageerror", lambda error: complaints.append(f"exception: {error}"))
    page.on("requestfailed", lambda r: complaints.append(f"failed: {r.url} {r.failure}"))


def executable() -> str | None:
    return next((found for name in NAMES if (found := shutil.which(name))), None)


def _has_driver() -> bool:
    return importlib.util.find_spec("playwright") is not None


def main() -> int:
    if executable() is None and not _apt_get():
        print(f"browser: no Chromium here and apt-get gave no {DEBIAN_PACKAGE}", file=sys.stderr)
        return TEMPORARY_FAILURE
    if not _has_driver():
        pip = [sys.executable, "-m", "pip", "install", "-qq", "--disable-pip-version-check", DRIVER]
        if subprocess.run(pip, check=False).returncode:
            print(f"browser: pip gave no {DRIVER}; its message is above", file=sys.stderr)
            return TEMPORARY_FAILURE
    if shutil.which("tmux") is None and not apt_get("install", "-y", "tmux"):
        print("browser: SKIPPED, LOUDLY: no tmux, so nobody looks at kvproxy top", file=sys.stderr)
    print(f"browser: {executable()}")
    return 0


def _apt_get() -> bool:
    """Whether Debian's package, which a bare machine may know nothing of yet, could be had."""
    if shutil.which("apt-get") is None:
        return False
    root = [] if os.geteuid() == 0 else ["sudo", "-n"]
    if root and shutil.which("sudo") is None:
        return False
    apt = [*root, "env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-qq"]
    apt += ["-o", f"DPkg::Lock::Timeout={APT_TIMEOUT_S}"]
    install = [*apt, "install", "-y", "--no-install-recommends", DEBIAN_PACKAGE, FONTS]
    for command in (install, [*apt, "update"], install):
        done = subprocess.run(command, check=False, stdout=subprocess.DEVNULL)
        if command is install and done.returncode == 0:
            return executable() is not None
    return False


if __name__ == "__main__":
    sys.exit(main())
