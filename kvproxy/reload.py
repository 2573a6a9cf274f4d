"""Taking over changed settings while requests run: read, checked and compared first, then applied
in one step, or not at all.
"""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass

from kvproxy.core.errors import ProxyError
from kvproxy.settings.diff import Diff, diff, taken_over
from kvproxy.settings.errors import SettingsError
from kvproxy.settings.model import Settings

log = logging.getLogger("kvproxy.reload")

# Raises SettingsError.
Load = Callable[[], Settings]
# Takes over what can be of the new settings, and returns what it did in words; raises ProxyError
# before it changed anything.
Apply = Callable[[Settings, Diff], list[str]]


@dataclass(frozen=True, slots=True)
class Reloaded:
    """`refused`: why everything stays as it was; `restart`: keys that changed and wait for one."""

    refused: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    done: tuple[str, ...] = ()
    restart: tuple[str, ...] = ()

    def as_json(self) -> dict[str, object]:
        return {
            "applied": not self.refused,
            "refused": self.refused,
            "changed": self.changed,
            "done": self.done,
            "restart_needed": self.restart,
        }


class Reloader:
    """`load` is None where there is nothing to read again."""

    def __init__(self, settings: Settings, load: Load | None, apply: Apply) -> None:
        self._settings = settings
        self._load = load
        self._apply = apply
        self._one_at_a_time = asyncio.Lock()

    async def reload(self) -> Reloaded:
        """The outcome is logged, too."""
        if self._load is None:
            return Reloaded(refused=("this server was started without a way to read its settings",))
        async with self._one_at_a_time:
            try:
                # Files are read off the loop: they may lie on a disk that is slow.
                new = await asyncio.to_thread(self._load)
            except SettingsError as error:
                return self._refuse(tuple(str(problem) for problem in error.problems))
            found = diff(self._settings, new)
            try:
                done = self._apply(new, found)
            except ProxyError as error:
                return self._refuse((error.message,))
            self._settings = taken_over(self._settings, new)
        if found.restart:
            log.warning("settings that wait for a restart: %s", ", ".join(found.restart))
        log.info("settings read again: %s", "; ".join(done or found.live) or "nothing changed")
        return Reloaded((), found.live, tuple(done), found.restart)

    def _refuse(self, problems: tuple[str, ...]) -> Reloaded:
        for problem in problems:
            log.error("settings not taken over: %s", problem)
        return Reloaded(refused=problems)
