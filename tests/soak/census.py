"""`python -m tests.soak.census FILE serve …`: kvproxy, which tells what its memory is made of.

Each SIGUSR2 adds a number to FILE.live: the bytes in use of what malloc and CPython's arenas hold.
Each SIGUSR1 adds a JSON line to FILE: what is resident, how many objects of each type there are and
how many only the collector could free, which it does; and with KVPROXY_CENSUS_TRACED set, from the
second time on, where what was allocated since the first time is held. Compare two lines that lie
far apart.

KVPROXY_CENSUS_LEAK=200 makes every request keep so many bytes, so that what looks for leaks can be
seen to find one.
"""

import ctypes
import gc
import json
import os
import re
import signal
import sys
import tempfile
import time
import tracemalloc
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any, cast

from kvproxy.adapters.http1.connection import ClientConnection
from kvproxy.adapters.http1.exchange import ClientExchange
from kvproxy.adapters.http1.listener import HttpServer
from kvproxy.cli.commands import main

_FRAMES, _PLACES = 4, 200
_ARENAS = re.compile(r"# bytes in (allocated|available) blocks\s+=\s+([\d,]+)")


class _Mallinfo(ctypes.Structure):
    _fields_ = [
        (name, ctypes.c_size_t)
        for name in (
            *("arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks"),
            *("fsmblks", "uordblks", "fordblks", "keepcost"),
        )
    ]


def _found_mallinfo() -> Callable[[], _Mallinfo] | None:
    """Looked for once: every look leaves types that only the collector frees."""
    try:
        found = ctypes.CDLL("libc.so.6").mallinfo2
    except (OSError, AttributeError):
        return None
    found.restype = _Mallinfo
    return cast(Callable[[], _Mallinfo], found)


_mallinfo = _found_mallinfo()


def taken() -> dict[str, Any]:
    garbage = _garbage()
    types = Counter(
        f"{type(each).__module__}.{type(each).__qualname__}" for each in gc.get_objects()
    )
    told: dict[str, Any] = {
        "resident_kib": _resident_kib(),
        "malloc": _malloc(),
        "arenas": _arenas(),
        "garbage": dict(garbage.most_common()),
        "types": dict(types.most_common()),
    }
    if tracemalloc.is_tracing():
        places = tracemalloc.take_snapshot().statistics("traceback")
        told["traced_bytes"] = sum(place.size for place in places)
        told["places"] = {
            " < ".join(f"{frame.filename}:{frame.lineno}" for frame in reversed(place.traceback)): [
                place.size,
                place.count,
            ]
            for place in places[:_PLACES]
        }
    return told


def live_bytes() -> int:
    """In use, whatever is resident: what only the collector could free included."""
    return _malloc().get("used", 0) + _arenas()["allocated"]


def _garbage() -> Counter[str]:
    """What only the collector could free, by type."""
    gc.set_debug(gc.DEBUG_SAVEALL)
    gc.collect()
    gc.set_debug(0)
    found = Counter(f"{type(each).__module__}.{type(each).__qualname__}" for each in gc.garbage)
    gc.garbage.clear()
    gc.collect()
    return found


def _malloc() -> dict[str, int]:
    """What glibc's allocator has taken, and what of it is in use; nothing where it is another."""
    if _mallinfo is None:
        return {}
    info = _mallinfo()
    return {
        "taken": info.arena + info.hblkhd,
        "used": info.uordblks + info.hblkhd,
        "free": info.fordblks,
    }


def _resident_kib() -> dict[str, int]:
    """By what is mapped: the heap, other memory of its own, files."""
    found: Counter[str] = Counter()
    name = ""
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if line.startswith("Rss:"):
            found[name] += int(line.split()[1])
        elif "-" in line.split(" ", 1)[0]:
            *_, last = line.split(maxsplit=5)
            name = "files" if last.startswith("/") else last if last.startswith("[") else "own"
    return {name: kib for name, kib in found.items() if kib}


def _arenas() -> dict[str, int]:
    """What CPython's allocator of small objects says of its arenas, to standard error."""
    with tempfile.TemporaryFile() as file:
        was = os.dup(2)
        os.dup2(file.fileno(), 2)
        try:
            sys._debugmallocstats()
        finally:
            os.dup2(was, 2)
            os.close(was)
        file.seek(0)
        return {name: int(n.replace(",", "")) for name, n in _ARENAS.findall(file.read().decode())}


def _run() -> None:
    file = Path(sys.argv[1])
    live = file.with_name(file.name + ".live")
    del sys.argv[1]

    def write(_signal: int, _frame: FrameType | None) -> None:
        told = json.dumps(taken())
        with file.open("a") as out:
            out.write(told + "\n")
        if "KVPROXY_CENSUS_TRACED" in os.environ:
            # What was there before is of no interest, and following it would take its time.
            tracemalloc.start(_FRAMES)

    def count(_signal: int, _frame: FrameType | None) -> None:
        with live.open("a") as out:
            out.write(f"{time.monotonic()} {live_bytes()}\n")

    signal.signal(signal.SIGUSR1, write)
    signal.signal(signal.SIGUSR2, count)
    leaking(int(os.environ.get("KVPROXY_CENSUS_LEAK", "0")))
    main()


def leaking(each: int) -> None:
    """From now on every request keeps so many bytes."""
    answered, kept = HttpServer.begin, list[bytes]()

    def begin(server: HttpServer, exchange: ClientExchange, connection: ClientConnection) -> None:
        kept.append(os.urandom(each))
        answered(server, exchange, connection)

    if each:
        HttpServer.begin = begin  # type: ignore[method-assign]


if __name__ == "__main__":
    _run()
