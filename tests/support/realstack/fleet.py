"""Two replicas, plain, with LMCache or NIXL; memory allows one of the kinds at a time."""

import asyncio
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass
from types import TracebackType
from typing import Self, TypeVar

import pytest

from tests.support.realstack.budget import NOT_READY
from tests.support.realstack.engine import Engine, replica
from tests.support.realstack.lmcache import Server, coordinator, server
from tests.support.realstack.places import Places
from tests.support.realstack.processes import NotReadyError

REPLICAS = 2
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Tiered:
    """Replica i stores into server i; the coordinator knows of both."""

    engines: list[Engine]
    servers: list[Server]
    coordinator_url: str


class Fleet:
    """Starts what is asked for, and stops it when the other kind is, or at the end."""

    def __init__(self, places: Places) -> None:
        self._places = places
        self._stack = AsyncExitStack()
        self._plain: list[Engine] | None = None
        self._tiered: Tiered | None = None
        self._handing: list[Engine] | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._stop()

    async def plain(self) -> list[Engine]:
        if self._plain is None:
            await self._stop()
            starts = [replica(self._places, index) for index in range(REPLICAS)]
            self._plain = await self._enter(starts)
        return self._plain

    async def tiered(self) -> Tiered:
        if self._tiered is None:
            await self._stop()
            url = await self._stack.enter_async_context(coordinator(self._places))
            names = [f"node-{index}" for index in range(REPLICAS)]
            servers = await self._enter([server(self._places, name, url) for name in names])
            starts = [
                replica(self._places, index, lmcache_port=each.port)
                for index, each in enumerate(servers)
            ]
            self._tiered = Tiered(await self._enter(starts), servers, url)
        return self._tiered

    async def handing(self) -> list[Engine]:
        """Replicas that hand KV to each other through NIXL."""
        if self._handing is None:
            await self._stop()
            starts = [replica(self._places, index, nixl=True) for index in range(REPLICAS)]
            self._handing = await self._enter(starts)
        return self._handing

    async def _enter(self, starts: Sequence[AbstractAsyncContextManager[T]]) -> list[T]:
        """All at once: most of a start is a process importing its libraries."""
        entering = (self._stack.enter_async_context(start) for start in starts)
        # None may be left starting when another fails: it would escape the stack.
        done = await asyncio.gather(*entering, return_exceptions=True)
        for result in done:
            if isinstance(result, NotReadyError):
                pytest.skip(f"{NOT_READY}: {result}")
            if isinstance(result, BaseException):
                raise result
        return [result for result in done if not isinstance(result, BaseException)]

    async def _stop(self) -> None:
        self._plain = self._tiered = self._handing = None
        await self._stack.aclose()
