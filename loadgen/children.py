"""Child processes that say when they are ready, and that never outlive their parent's work."""

import asyncio
import contextlib
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Sequence

READY = "ready "
READY_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 5.0
ERROR_BYTES_MAX = 2000


class ChildError(Exception):
    """A child ended or stayed silent before it was ready; the message ends with what it said."""


@contextlib.asynccontextmanager
async def kvproxy_child(arguments: Sequence[str], ready_lines: int) -> AsyncIterator[list[str]]:
    """Run `python -m kvproxy ARGUMENTS`; yields the URLs of its first `ready URL` lines.

    The child is terminated by pid on the way out, whatever the reason.
    """
    with tempfile.TemporaryFile() as errors:
        child = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "kvproxy",
            *arguments,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=errors,
        )
        drain: asyncio.Task[None] | None = None
        try:
            assert child.stdout is not None
            try:
                async with asyncio.timeout(READY_TIMEOUT_S):
                    urls = await _ready(child.stdout, ready_lines)
            except TimeoutError:
                urls = []
            if len(urls) < ready_lines:
                errors.seek(0)
                said = errors.read()[-ERROR_BYTES_MAX:].decode(errors="replace").strip()
                raise ChildError(f"kvproxy {arguments[0]} did not get ready: {said or 'silent'}")
            # Whatever else it prints must not fill the pipe and stop it.
            drain = asyncio.create_task(_drain(child.stdout))
            yield urls
        finally:
            if drain is not None:
                drain.cancel()
            await asyncio.shield(_stop(child))


async def _ready(stdout: asyncio.StreamReader, lines: int) -> list[str]:
    urls: list[str] = []
    while len(urls) < lines and (line := await stdout.readline()):
        text = line.decode(errors="replace").strip()
        if text.startswith(READY):
            urls.append(text.removeprefix(READY))
    return urls


async def _drain(stdout: asyncio.StreamReader) -> None:
    while await stdout.read(65536):
        pass


async def _stop(child: asyncio.subprocess.Process) -> None:
    if child.returncode is not None:
        return
    with contextlib.suppress(ProcessLookupError):
        child.send_signal(signal.SIGTERM)
    try:
        await asyncio.wait_for(child.wait(), STOP_TIMEOUT_S)
    except TimeoutError:
        with contextlib.suppress(ProcessLookupError):
            child.kill()
        await child.wait()
