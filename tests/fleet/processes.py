"""kvproxy commands as processes that can be killed, and what they say on their metrics page."""

import asyncio
import contextlib
import sys
import tempfile
import urllib.request
from collections.abc import AsyncIterator, Sequence

READY_S = 240.0


class Child:
    def __init__(self, process: asyncio.subprocess.Process, urls: list[str]) -> None:
        self._process = process
        self.urls = urls

    @property
    def url(self) -> str:
        return self.urls[0]

    async def kill(self) -> None:
        """At once; its connections are cut."""
        if self._process.returncode is None:
            self._process.kill()
            await self._process.wait()


@contextlib.asynccontextmanager
async def child(arguments: Sequence[str], ready_lines: int = 1) -> AsyncIterator[Child]:
    """`python -m kvproxy ARGUMENTS`, once it has said `ready URL` so often."""
    with tempfile.TemporaryFile() as errors:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "kvproxy", *arguments,
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=errors,
        )  # fmt: skip
        assert process.stdout is not None
        urls: list[str] = []
        try:
            async with asyncio.timeout(READY_S):
                while len(urls) < ready_lines and (line := await process.stdout.readline()):
                    urls += [line.decode().strip().removeprefix("ready ")]
            if len(urls) < ready_lines:
                errors.seek(0)
                raise RuntimeError(errors.read()[-2000:].decode(errors="replace"))
            yield Child(process, urls)
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()


def metric(url: str, name: str) -> dict[str, float]:
    """Samples of one metric by their labels as text; {} where nobody answers."""
    try:
        with urllib.request.urlopen(f"{url}/metrics", timeout=5) as answer:
            page = answer.read().decode()
    except OSError:
        return {}
    found = {}
    for line in page.splitlines():
        head, _, value = line.rpartition(" ")
        if head == name or head.startswith(name + "{"):
            found[head.removeprefix(name).strip("{}")] = float(value)
    return found


def quantile_le(buckets: dict[str, float], share: float) -> float:
    """The upper bound of the bucket in which the quantile lies; `buckets` by `le="…"`."""
    rows = sorted((float(label.split('"')[1]), count) for label, count in buckets.items())
    if not rows or not rows[-1][1]:
        return 0.0
    return next(bound for bound, count in rows if count >= share * rows[-1][1])
