import subprocess
import sys

import pytest

from kvproxy.ops.allocator import settle

_TURNS = """
import resource, sys
from kvproxy.ops.allocator import settle
if sys.argv[1] == "settled" and not settle():
    print("none"); raise SystemExit
def turn():
    parts = [bytes(256_000), bytes(170_000)]
    return b"".join(parts)
for _ in range(20): turn()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(200): turn()
print((resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) / 200)
"""


def test_both_thresholds_are_set() -> None:
    said: dict[int, int] = {}

    def mallopt(what: int, size: int) -> int:
        said[what] = size
        return 1

    assert settle({}, mallopt)
    assert said == {-3: 4 * 2**20, -1: 16 * 2**20}


@pytest.mark.parametrize(
    "environ",
    [{"MALLOC_TRIM_THRESHOLD_": "1"}, {"GLIBC_TUNABLES": "glibc.malloc.mmap_threshold=1"}],
)
def test_operators_know_better(environ: dict[str, str]) -> None:
    assert not settle(environ, lambda what, size: pytest.fail("it was told"))


def test_a_library_that_refuses_is_said_to() -> None:
    assert not settle({}, lambda what, size: 0)


def faults_a_turn(how: str) -> float | None:
    done = subprocess.run(
        [sys.executable, "-c", _TURNS, how], capture_output=True, text=True, check=True
    )
    return None if done.stdout.strip() == "none" else float(done.stdout)


def test_turns_are_read_without_page_faults() -> None:
    faults = faults_a_turn("settled")
    if faults is None:
        pytest.skip("this C library has no mallopt")
    assert faults < 1
