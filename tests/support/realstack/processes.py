"""Long-running child processes: a log each, ready when HTTP says so, gone when the block ends."""

import asyncio
import contextlib
import os
import shutil
import signal
import socket
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp

# Six times what an engine needs on a quiet machine.
READY_TIMEOUT_S = 240.0
STOP_TIMEOUT_S = 15.0
LOG_TAIL_BYTES = 4000


class StartError(Exception):
    """A process ended before it was ready; the message ends with its log."""


class NotReadyError(StartError):
    """It is still at it: this machine is too busy, or it hangs."""


def free_ports(count: int) -> list[int]:
    """Ports of the loopback interface that nobody listened on a moment ago, all different."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


@asynccontextmanager
async def running(
    command: Sequence[str], environment: Mapping[str, str], log: Path, health_url: str
) -> AsyncIterator[asyncio.subprocess.Process]:
    """Yields once `health_url` answers 200; raises StartError when it does not come to that,
    NotReadyError when it only takes too long."""
    # An engine is several processes: they share a group of their own, to be ended as one.
    with log.open("wb") as output:
        child = await asyncio.create_subprocess_exec(
            *_dies_with_us(),
            *command,
            env={**os.environ, **environment},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        await _until_healthy(child, health_url, log)
        yield child
    finally:
        await asyncio.shield(_stop(child))


def _dies_with_us() -> list[str]:
    """Nothing may stay behind even when the tests are killed."""
    setpriv = shutil.which("setpriv")
    return [setpriv, "--pdeathsig", "TERM"] if setpriv else []


async def _until_healthy(child: asyncio.subprocess.Process, url: str, log: Path) -> None:
    deadline = time.monotonic() + READY_TIMEOUT_S
    timeout = aiohttp.ClientTimeout(total=2.0)
    async with aiohttp.ClientSession(timeout=timeout) as session:
        while time.monotonic() < deadline:
            if child.returncode is not None:
                raise StartError(f"ended with status {child.returncode}; {_tail(log)}")
            with contextlib.suppress(aiohttp.ClientError, TimeoutError):
                async with session.get(url) as response:
                    if response.status == 200:
                        return
            await asyncio.sleep(0.2)
    raise NotReadyError(f"{url} was not ready after {READY_TIMEOUT_S:g} s; {_tail(log)}")


def _tail(log: Path) -> str:
    text = log.read_bytes()[-LOG_TAIL_BYTES:].decode(errors="replace")
    return f"the end of {log}:\n{text}"


async def _stop(child: asyncio.subprocess.Process) -> None:
    """Ask the group to end, and make sure of it: workers outlive a parent that was killed."""
    _signal_group(child.pid, signal.SIGTERM)
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(child.wait(), STOP_TIMEOUT_S)
    _signal_group(child.pid, signal.SIGKILL)
    await child.wait()


def _signal_group(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, number)
