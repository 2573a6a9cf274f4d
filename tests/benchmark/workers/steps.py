"""Where the hop's time goes, step by step, at the pace of paced.py:
`python -m tests.benchmark.workers.steps`.

The same module runs kvproxy whose two ends of the hop note when they get to what: clocks of
processes of one machine are one clock.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from kvproxy.adapters.hop import link, placer, server
from kvproxy.cli.commands import main as kvproxy
from kvproxy.core import desk, hop
from tests.benchmark.relay.__main__ import running, until_it_answers
from tests.benchmark.workers.__main__ import PORT, PYTHON, REPLICAS, served

FOLDER = "KVPROXY_HOP_STEPS"
# Of a worker (w) and the placement process (p), in their order, and what came before.
STEPS = {
    "w asks": "",
    "w asked": "packing",
    "w writes": "until its turn",
    "w framed": "encoding",
    "p hears": "sending, waking up",
    "p decides": "decoding",
    "p decided": "DECIDING, which is not the hop",
    "p framed": "encoding",
    "w hears": "sending, waking up",
    "w places": "decoding",
}


class Notes:
    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lines: list[str] = []

    def note(self, step: str) -> None:
        self._lines.append(f"{time.monotonic_ns()} {step} {os.getpid()}\n")
        # Between requests, as far as can be told here.
        if step in ("w places", "p framed") and len(self._lines) >= 100:
            with (self._folder / str(os.getpid())).open("a") as file:
                file.writelines(self._lines)
            self._lines.clear()

    def around(self, kind: type, name: str, before: str, after: str = "") -> None:
        inner: Callable[..., Any] = getattr(kind, name)

        def noted(*given: Any, **named: Any) -> Any:
            self.note(before)
            found = inner(*given, **named)
            if after:
                self.note(after)
            return found

        setattr(kind, name, noted)


def serve(folder: Path) -> None:
    notes = Notes(folder)
    notes.around(placer.HopPlacer, "_asking", "w asks", "w asked")
    notes.around(link.HopLink, "_flush", "w writes")
    notes.around(server._Connection, "data_received", "p hears")
    notes.around(desk.Desk, "_place", "p decides", "p decided")
    notes.around(link.HopLink, "data_received", "w hears")
    notes.around(placer.HopPlacer, "_placed", "w places")
    frame = hop.frame

    def framed(messages: Sequence[Any]) -> bytearray:
        found = frame(messages)
        notes.note("w framed" if isinstance(messages[0], hop.FromWorker) else "p framed")
        return found

    hop.frame = framed
    kvproxy()


def taken(folder: Path) -> list[dict[str, int]]:
    """When each request got to each step; those that met others are left out."""
    lines = [line.split(" ") for file in folder.iterdir() for line in file.open()]
    events = sorted((int(at), f"{end} {did}", pid) for at, end, did, pid in lines)
    found: list[dict[str, int]] = []
    asking, worker = dict[str, int](), ""
    for at, step, pid in events:
        if step == "w asks":
            asking, worker = {step: at}, pid
        elif asking and (step.startswith("p") or pid == worker):
            # The placement process hears of what ended, too, before it hears of this.
            if step not in asking or (step == "p hears" and "p decides" not in asking):
                asking[step] = at
            if step == "w places":
                found.append(asking)
                asking = {}
    whole = [each for each in found if STEPS.keys() <= each.keys()]
    in_order = [[each[step] for step in STEPS] for each in whole]
    return [each for each, at in zip(whole, in_order, strict=True) if at == sorted(at)]


def show(found: list[dict[str, int]]) -> None:
    print(f"{len(found)} requests, us: median, 99th")
    rows = {
        _row(after): [(each[after] - each[before]) / 1e3 for each in found]
        for before, after in pairwise(STEPS)
    }
    deciding, *waking = rows[_row("p decided")], rows[_row("p hears")], rows[_row("w hears")]
    all_of_it = [sum(took) for took in zip(*rows.values(), strict=True)]
    added = rows["the hop"] = [a - b for a, b in zip(all_of_it, deciding, strict=True)]
    awake = zip(added, *waking, strict=True)
    rows["the hop, but for sending and waking up"] = [
        took - one - other for took, one, other in awake
    ]
    for name, took in rows.items():
        took.sort()
        print(f"  {name:42} {took[len(took) // 2]:7.1f} {took[len(took) * 99 // 100]:7.1f}")


def _row(step: str) -> str:
    return f"{step}: {STEPS[step]}"


def main() -> None:
    mock = f"{PYTHON} -m tests.benchmark.relay.mock {' '.join(map(str, REPLICAS))}"
    with tempfile.TemporaryDirectory() as folder, running(mock, os.cpu_count() or 1):
        until_it_answers(REPLICAS[-1], "/v1/models", b"mock")
        os.environ[FOLDER] = folder
        with served(2, "tests.benchmark.workers.steps"):
            paced = [PYTHON, "-m", "tests.benchmark.workers.paced", str(PORT)]
            subprocess.run(paced, check=True)
        show(taken(Path(folder)))


if __name__ == "__main__":
    if sys.argv[1:]:
        serve(Path(os.environ[FOLDER]))
    else:
        main()
