"""An emulated replica beside a command under test, which runs a loop of its own."""

import asyncio
import contextlib
import threading
from collections.abc import Iterator

from loadgen.emulator import EmulatorSettings, Fleet


@contextlib.contextmanager
def emulated(settings: EmulatorSettings) -> Iterator[str]:
    """Yields the URL of one replica."""
    loop, ready, urls = asyncio.new_event_loop(), threading.Event(), list[str]()
    over = asyncio.Event()

    async def serve() -> None:
        fleet = Fleet(settings, 1, "127.0.0.1", 0)
        await fleet.start()
        urls.extend(fleet.urls)
        ready.set()
        await over.wait()
        await fleet.stop()

    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()))
    thread.start()
    try:
        assert ready.wait(10), "the emulator did not start"
        yield urls[0]
    finally:
        loop.call_soon_threadsafe(over.set)
        thread.join(10)
        loop.close()
