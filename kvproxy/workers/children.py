"""What runs in the processes that the supervisor starts."""

import asyncio
import contextlib
import math
import os
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path

import uvloop

from kvproxy.adapters.http1.listener import ListenError
from kvproxy.adapters.http1.tls import TlsError
from kvproxy.app import App
from kvproxy.reload import Load, Reloaded
from kvproxy.settings.model import Settings
from kvproxy.sources import SourceSetupError
from kvproxy.workers.placement import PlacementApp
from kvproxy.workers.worker import WorkerApp

# How long a process without a supervisor may take to end, beyond twice the grace of its answers:
# the placement process waits for workers that drain.
_MARGIN_S = 20.0
# What the system takes.
_ALARM_MAX_S = 2**31 - 1


def place(settings: Settings, folder: Path, load: Load | None, life: socket.socket) -> int:
    """The placement process. `life` ends with the supervisor, which SIGHUP has tell all others."""
    supervisor = os.getppid()

    def reload_all() -> None:
        # An orphan's parent is somebody else.
        if os.getppid() == supervisor:
            os.kill(supervisor, signal.SIGHUP)

    return _run(lambda: PlacementApp(settings, folder, load, reload_all), life, settings)


def serve(settings: Settings, folder: Path, load: Load | None, life: socket.socket) -> int:
    """A worker."""
    return _run(lambda: WorkerApp(settings, folder, load), life, settings)


def _run(make: Callable[[], App], life: socket.socket, settings: Settings) -> int:
    try:
        return uvloop.run(_live(make, life, settings.server.ends_in_s))
    except (SourceSetupError, TlsError, ListenError) as error:
        sys.stderr.write(f"{error}\n")
    except SystemExit as error:
        sys.stderr.write(f"{error.code}\n")
    return 1


async def _live(make: Callable[[], App], life: socket.socket, grace_s: float) -> int:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    life.setblocking(False)

    def orphaned() -> None:
        """Nobody is left who would kill this process if it did not end: it sees to that itself."""
        # At the end of file the socket stays readable.
        loop.remove_reader(life)
        loop.remove_signal_handler(signal.SIGTERM)
        stop.set()
        signal.alarm(math.ceil(min(2 * grace_s + _MARGIN_S, _ALARM_MAX_S)))

    # Nobody writes to it: it becomes readable when the supervisor is no more.
    loop.add_reader(life, orphaned)
    try:
        app = make()
        _reload_at_hangup(loop, app)
        starting, told = asyncio.ensure_future(app.start()), asyncio.ensure_future(stop.wait())
        await asyncio.wait([starting, told], return_when=asyncio.FIRST_COMPLETED)
        if not starting.done():
            starting.cancel()
        try:
            url = await starting
        except BaseException:
            await app.close()
            if starting.cancelled():
                return 0
            told.cancel()
            raise
        # Whoever wanted to know may be gone.
        with contextlib.suppress(OSError):
            life.send(url.encode())
        await told
        await app.stop()
    finally:
        loop.remove_reader(life)
        life.close()
        signal.alarm(0)
    return 0


def _reload_at_hangup(loop: asyncio.AbstractEventLoop, app: App) -> None:
    reloads = set[asyncio.Task[Reloaded]]()

    def reload() -> None:
        task = loop.create_task(app.reloader.reload())
        reloads.add(task)
        task.add_done_callback(reloads.discard)

    loop.add_signal_handler(signal.SIGHUP, reload)
