"""torch comes with the engine, so what needs it is tested here."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.realstack.install import is_installed
from tests.support.realstack.places import default_places

_TESTS = Path(__file__).resolve().parents[1] / "unit" / "loadgen" / "calibration"
# Appended, so that everything but torch and what it needs is our own environment's.
_RUN = "import sys, pytest; sys.path.append(sys.argv.pop(1)); sys.exit(pytest.main(sys.argv[1:]))"


@pytest.mark.realstack
@pytest.mark.timeout(300)
def test_calibration_computes_what_it_should() -> None:
    places = default_places()
    if not is_installed(places):
        pytest.skip("no torch is installed: run `make test-vllm`")
    site = next((places.venv / "lib").glob("python3*/site-packages"))
    words = [str(site), "-q", "-p", "no:cacheprovider", str(_TESTS)]
    command = [sys.executable, "-c", _RUN, *words]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    print(done.stdout[-2000:])
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
    assert "torch is optional" not in done.stdout, "torch was there and not found"
