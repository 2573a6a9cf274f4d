"""What runs in the processes that the supervisor starts."""

import asyncio
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


def place(settings: Settings, folder: Path, load: Load | None, life: socket.socket) -> int:
    """The placement process. `life` ends with the supervisor, which SIGHUP has tell all others."""
    supervisor = os.getppid()

    def reload_all() -> None:
        os.kill(supervisor, signal.SIGHUP)

    return uvloop.run(_live(lambda: PlacementApp(settings, folder, load, reload_all), life))


def serve(settings: Settings, folder: Path, load: Load | None, life: socket.socket) -> int:
    """A worker."""
    return uvloop.run(_live(lambda: WorkerApp(settings, folder, load), life))


async def _live(make: Callable[[], App], life: socket.socket) -> int:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    try:
        app = make()
    except (SourceSetupError, TlsError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    reloads = set[asyncio.Task[Reloaded]]()

    def reload() -> None:
        task = loop.create_task(app.reloader.reload())
        reloads.add(task)
        task.add_done_callback(reloads.discard)

    loop.add_signal_handler(signal.SIGHUP, reload)
    life.setblocking(False)
    # Nobody writes to it: it becomes readable when the supervisor is no more.
    loop.add_reader(life, stop.set)
    try:
        try:
            url = await app.start()
        except ListenError as error:
            await app.close()
            sys.stderr.write(f"{error}\n")
            return 1
        except BaseException:
            await app.close()
            raise
        life.send(url.encode())
        await stop.wait()
        await app.stop()
    finally:
        loop.remove_reader(life)
        life.close()
    return 0
