"""An event loop whose clock jumps to the next timer: an hour of waiting takes no time at all."""

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from typing import Any


class _Jump(selectors.SelectSelector):
    """Never waits: what the loop would have waited for is added to its clock."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if not ready:
            if timeout is None:
                raise RuntimeError(f"at {self.now:.3f} s nothing is left to happen: a deadlock")
            self.now += max(0.0, timeout)
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._jump = _Jump()
        super().__init__(self._jump)

    def time(self) -> float:
        return self._jump.now


def run_virtually(main: Coroutine[Any, Any, object]) -> None:
    """Runs `main` in virtual time; tasks that it leaves behind are an error."""
    loop = VirtualLoop()
    try:
        loop.run_until_complete(main)
        left = [task.get_name() for task in asyncio.all_tasks(loop)]
        assert not left, f"tasks left behind: {left}"
    finally:
        loop.close()


def play_each(story: Callable[[int], Coroutine[Any, Any, object]], seeds: range) -> None:
    """An error says of which seed it is."""
    for seed in seeds:
        try:
            run_virtually(story(seed))
        except BaseException as error:
            error.add_note(f"seed {seed}")
            raise
