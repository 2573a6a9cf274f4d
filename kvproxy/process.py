"""A server as a process: what it says when it is ready, and the signals that it hears."""

import asyncio
import logging
import signal
import sys
from collections.abc import Callable

import uvloop

from kvproxy.adapters.http1.listener import ListenError
from kvproxy.adapters.http1.tls import TlsError
from kvproxy.admin.first_steps import first_steps
from kvproxy.app import App
from kvproxy.ops.logs import set_up
from kvproxy.ops.systemd import notify
from kvproxy.reload import Load, Reloaded
from kvproxy.settings.cautions import cautions
from kvproxy.settings.model import Settings
from kvproxy.sources import SourceSetupError

log = logging.getLogger("kvproxy")

Make = Callable[[Settings, Load | None], App]


async def _serve(settings: Settings, load: Load | None, make: Make) -> int:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    # Until there is something to read settings for, that signal would end the process.
    loop.add_signal_handler(signal.SIGHUP, lambda: None)
    try:
        app = make(settings, load)
    except (SourceSetupError, TlsError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    try:
        url = await app.start()
    except ListenError as error:
        await app.close()
        sys.stderr.write(f"{error}\n")
        return 1
    loop.add_signal_handler(signal.SIGINT, stop.set)
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    reloads = set[asyncio.Task[Reloaded]]()

    def reload() -> None:
        task = loop.create_task(app.reloader.reload())
        reloads.add(task)
        task.add_done_callback(reloads.discard)

    loop.add_signal_handler(signal.SIGHUP, reload)
    sys.stdout.write(f"ready {url}\n")
    sys.stdout.flush()
    notify("READY=1", f"STATUS=listening on {url}")
    first_steps(settings, url, app.admin_server, app.metrics.answered)
    await stop.wait()
    # A second signal means now: the default action ends the process.
    loop.remove_signal_handler(signal.SIGINT)
    loop.remove_signal_handler(signal.SIGTERM)
    notify("STOPPING=1")
    await app.stop()
    return 0


def run(settings: Settings, load: Load | None = None, make: Make = App) -> int:
    """`kvproxy serve`: returns when told to stop and drained. SIGHUP has `load` read again."""
    set_up(settings.log.level, settings.log.format)
    for caution in cautions(settings):
        log.warning(caution)
    return uvloop.run(_serve(settings, load, make))
