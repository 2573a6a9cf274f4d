"""Telling the client of a stream that it waits, so that nobody on the way hangs up on silence."""

import asyncio
from types import TracebackType
from typing import Protocol, Self


class Holdable(Protocol):
    @property
    def held(self) -> bool: ...

    def hold(self) -> None: ...


class Patience:
    """Holds a client every `every_s` seconds between begin() and stop(); None: never. What is due
    is called by the loop and awaits nothing, so leaving the block leaves nothing behind."""

    def __init__(self, client: Holdable, every_s: float | None) -> None:
        self._client = client
        self._every_s = every_s
        self._timer: asyncio.TimerHandle | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self.stop()

    def begin(self) -> None:
        """The wait begins, or goes on."""
        if self._every_s is not None and self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._every_s, self._due)

    def placed(self) -> None:
        """The engine's own head can still be sent to a client that was not held: it is worth more
        than a comment. Who was held hears on until an engine answers."""
        if not self._client.held:
            self.stop()

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _due(self) -> None:
        self._timer = None
        self._client.hold()
        self.begin()


class _Nobody:
    held = True

    def hold(self) -> None:
        raise AssertionError("nobody waits")


_IMPATIENT = Patience(_Nobody(), None)


def patience_with(client: Holdable, every_s: float | None) -> Patience:
    """One for all clients that are not told: it keeps nothing."""
    return _IMPATIENT if every_s is None else Patience(client, every_s)
