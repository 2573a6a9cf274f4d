"""Trouble made on purpose: commands at set times, and clients that hang up or read slowly.

Which requests are troubled is fixed by the seed and the request, not by who sends it or when.
"""

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from msgspec import Struct

COMMAND_TIMEOUT_S = 120.0
SAID_CHARS_MAX = 500
# Of those who hang up, half also lose patience within so many engine seconds, token or none.
IMPATIENCE_S = 5.0
# Few tokens are shorter, so that whoever is to hang up does so before the answer ends.
_BYTES_PER_TOKEN = 3


@dataclass(frozen=True, slots=True)
class Fault:
    """What one client does: hang up after so many bytes of text, or real seconds, whichever is
    first; read no faster than `bytes_per_s`."""

    abort_bytes: int | None = None
    abort_s: float | None = None
    bytes_per_s: float | None = None

    @property
    def name(self) -> str:
        if self.abort_bytes is not None:
            return "abort"
        return "slow" if self.bytes_per_s is not None else ""


WELL = Fault()


@dataclass(frozen=True, slots=True)
class Faults:
    """Shares of all requests: those that are given up at a random point, those that are read at
    `slow_bytes_per_s`."""

    aborts: float = 0.0
    slow_readers: float = 0.0
    slow_bytes_per_s: float = 2000.0

    def of(
        self, key: tuple[str, str, int], seed: int, output_tokens: int, time_scale: float = 1.0
    ) -> Fault:
        if not self.aborts and not self.slow_readers:
            return WELL
        random = Random(f"fault {seed} {key}")
        drawn = random.random()
        if drawn < self.aborts:
            text = random.randint(1, _BYTES_PER_TOKEN * max(1, output_tokens))
            impatient = random.random() < 0.5
            return Fault(text, random.uniform(0, IMPATIENCE_S) / time_scale if impatient else None)
        if drawn < self.aborts + self.slow_readers:
            return Fault(bytes_per_s=self.slow_bytes_per_s)
        return WELL


@dataclass(frozen=True, slots=True)
class Command:
    """A shell command at `at_s` real seconds after the run began."""

    at_s: float
    text: str


class Happened(Struct):
    """`at_s` and `took_s` are real seconds since the run began; `status` is None when the command
    had to be ended; `said` is the end of what it printed."""

    at_s: float
    command: str
    status: int | None
    took_s: float
    said: str


class Chaos:
    """Runs commands in order of their times, each in a process group of its own."""

    def __init__(self, commands: Sequence[Command]) -> None:
        self.happened: list[Happened] = []
        self._commands = sorted(commands, key=lambda command: command.at_s)

    async def run(self, began: float, start: float) -> None:
        """Times of commands count from the monotonic time `began`, those noted from `start`. What
        was due long ago, before a run was resumed, is not done again."""
        now = time.monotonic() - began
        async with asyncio.TaskGroup() as group:
            for command in self._commands:
                if command.at_s >= now - 1.0:
                    group.create_task(self._one(command, began, start))

    async def _one(self, command: Command, began: float, start: float) -> None:
        await asyncio.sleep(began + command.at_s - time.monotonic())
        at = time.monotonic()
        child = await asyncio.create_subprocess_shell(
            command.text, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
        # Noted when it begins: a run may end before it does.
        one = Happened(round(at - start, 3), command.text, None, 0.0, "")
        self.happened.append(one)
        try:
            async with asyncio.timeout(COMMAND_TIMEOUT_S):
                said, _ = await child.communicate()
            one.status, one.said = child.returncode, _tail(said)
        except TimeoutError:
            one.said = f"ended after {COMMAND_TIMEOUT_S:g} s"
        finally:
            one.took_s = round(time.monotonic() - at, 3)
            if child.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(child.pid, signal.SIGKILL)


def _tail(said: bytes) -> str:
    return said.decode(errors="replace").strip()[-SAID_CHARS_MAX:]
