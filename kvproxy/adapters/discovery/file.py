"""Replicas from a file that is read again whenever it changes."""

import asyncio
import logging
from pathlib import Path

import yaml

from kvproxy.core.discovered import Entries, Found

log = logging.getLogger("kvproxy.discovery")


class FileSource:
    """YAML or JSON: a list as `replicas:` has it. Files that are replaced by renaming, as
    Kubernetes does with ConfigMaps, are followed by name."""

    def __init__(self, path: Path, interval_s: float) -> None:
        self._path = path
        self._interval_s = interval_s
        self._seen: tuple[int, int, int] | None = None
        self._blank: tuple[int, int, int] | None = None

    async def run(self, found: Found) -> None:
        while True:
            await self.look(found)
            await asyncio.sleep(self._interval_s)

    async def look(self, found: Found) -> None:
        """What cannot be read changes nothing, and is said once for each state of the file."""
        try:
            stat = await asyncio.to_thread(self._path.stat)
            state = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
        except OSError as error:
            state, problem = (0, 0, 0), str(error)
        else:
            problem = ""
        if state == self._seen:
            return
        self._seen = state
        try:
            if problem:
                raise ValueError(problem)
            entries = await asyncio.to_thread(self._read)
            if entries is None and self._blank != state:
                # It may be about to be written: that there are none counts if it stays so.
                self._blank, self._seen = state, None
                return
            found(entries or [])
        except (OSError, ValueError, yaml.YAMLError) as error:
            log.error("%s: %s; what it said before stays", self._path, error)

    def _read(self) -> Entries | None:
        """None where it says nothing at all."""
        entries = yaml.safe_load(self._path.read_bytes())
        if entries is None:
            return None
        if isinstance(entries, dict):
            entries = entries.get("replicas", [])
        if not isinstance(entries, list) or not all(isinstance(e, str | dict) for e in entries):
            raise ValueError("not a list of replicas")
        return entries
