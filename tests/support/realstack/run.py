"""`make test-vllm`: installs the real stack where it is missing, runs its tests, and ends in time.

Exits 0 when all passed, 1 when something failed, and 75 when nothing can be said: what is needed
cannot be had here, or this machine was too busy to get to the end.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.support.realstack.budget import ENDS_AT, minutes
from tests.support.realstack.install import TEMPORARY_FAILURE
from tests.support.realstack.places import default_places

# Downloads of some 700 MB, unpacked; the third run of a slow registry is no better than the second.
INSTALL_S = 15 * 60
# Past the end no test begins; one that has begun gets this long, and what hangs is ended.
GRACE_S = 300
# Two engines, two DRAM servers and a coordinator beside the tests; wheels and what they unpack to.
MEMORY_GIB, DISK_GIB = 6.0, 6.0


def main(arguments: Sequence[str]) -> int:
    missing = _missing()
    if missing:
        print(f"real stack: {missing}", file=sys.stderr)
        return TEMPORARY_FAILURE
    status = _run([sys.executable, "-m", "tests.support.realstack.install"], {}, INSTALL_S)
    if status is None:
        print(f"real stack: not installed after {INSTALL_S} s", file=sys.stderr)
        return TEMPORARY_FAILURE
    if status:
        return status
    ends_at = {ENDS_AT: str(time.time() + 60 * minutes())}
    # Where its minutes went is worth knowing on a machine that has too few.
    command = [sys.executable, "-m", "pytest", "-s", "--durations=12", "-m", "realstack"]
    command += arguments
    status = _run(command, ends_at, 60 * minutes() + GRACE_S)
    if status is None:
        print(f"real stack: a test hung for {GRACE_S} s past the end of the run", file=sys.stderr)
        return 1
    return status


def _missing() -> str:
    """What this machine is too small for; empty when it will do."""
    root = default_places().root
    root.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(root).free / 2**30
    if free < DISK_GIB and not default_places().stamp.exists():
        return f"{free:.1f} GiB of disk are free in {root}, {DISK_GIB:g} are needed"
    with contextlib.suppress(OSError, StopIteration):
        lines = Path("/proc/meminfo").read_text().splitlines()
        line = next(line for line in lines if line.startswith("MemAvailable:"))
        memory = int(line.split()[1]) / 2**20
        if memory < MEMORY_GIB:
            return f"{memory:.1f} GiB of memory are free, {MEMORY_GIB:g} are needed"
    return ""


def _run(command: Sequence[str], environment: Mapping[str, str], limit_s: float) -> int | None:
    """Its exit status; None when it had to be ended, with all that it started."""
    child = subprocess.Popen(command, env={**os.environ, **environment}, start_new_session=True)
    try:
        return child.wait(limit_s)
    except subprocess.TimeoutExpired:
        return None
    finally:
        # Engines have sessions of their own and end with the process that started them.
        for number in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(15)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:] or ["tests/realstack"]))
