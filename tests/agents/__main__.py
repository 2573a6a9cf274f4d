"""`make test-agents`: gets the agents where they are missing and runs their tests where nothing but
this process's own loopback can be reached, so that none of them can phone home.

Exits 75 where npm, the registry or a network namespace cannot be had.
"""

import argparse
import fcntl
import os
import shutil
import socket
import struct
import subprocess
import sys
from pathlib import Path

from tests.agents.programs import PROGRAMS

TEMPORARY_FAILURE = 75
FOLDER = "KVPROXY_AGENTS"
_INSTALL_S = 600
_SIOCSIFFLAGS, _IFF_UP_RUNNING = 0x8914, 0x41


def folder() -> Path:
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get(FOLDER) or Path(cache) / "kvproxy-agents")


def installed(where: Path, packages: list[str], anew: bool) -> bool:
    """Whether they could be had; their install scripts, which would fetch more, are not run."""
    stamp = where / "packages"
    if not anew and stamp.is_file() and stamp.read_text().split() == packages:
        return True
    if shutil.which("npm") is None:
        return False
    shutil.rmtree(where, ignore_errors=True)
    where.mkdir(parents=True)
    (where / "package.json").write_text("{}")
    command = ["npm", "install", "--silent", "--no-audit", "--no-fund", "--ignore-scripts"]
    try:
        subprocess.run([*command, *packages], cwd=where, check=True, timeout=_INSTALL_S)
    except (subprocess.SubprocessError, OSError) as error:
        print(f"agents: npm gave no {' '.join(packages)}: {error}", file=sys.stderr)
        return False
    stamp.write_text("\n".join(packages))
    return True


def isolated(command: list[str]) -> list[str]:
    """The command in a network of its own."""
    user = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    return ["unshare", *user, "--net", "--", *command]


def loopback_up() -> None:
    with socket.socket() as any_socket:
        request = struct.pack("16sh14x", b"lo", _IFF_UP_RUNNING)
        fcntl.ioctl(any_socket, _SIOCSIFFLAGS, request)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--latest", action="store_true", help="the newest versions, not the pinned")
    parser.add_argument("--isolated", action="store_true", help=argparse.SUPPRESS)
    known, pytest_arguments = parser.parse_known_args()
    if known.isolated:
        loopback_up()
        command = [sys.executable, "-m", "pytest", "-q", "-s", "tests/agents", *pytest_arguments]
        return subprocess.run(command, check=False).returncode
    versions = [("latest" if known.latest else program.version) for program in PROGRAMS]
    packages = [f"{p.package}@{v}" for p, v in zip(PROGRAMS, versions, strict=True)]
    where = folder()
    if not installed(where, packages, known.latest):
        print("agents: they cannot be had here", file=sys.stderr)
        return TEMPORARY_FAILURE
    if subprocess.run(isolated(["true"]), check=False, capture_output=True).returncode:
        print("agents: no network namespace can be made here", file=sys.stderr)
        return TEMPORARY_FAILURE
    again = [sys.executable, "-m", "tests.agents", "--isolated", *pytest_arguments]
    environment = os.environ | {FOLDER: str(where)}
    return subprocess.run(isolated(again), check=False, env=environment).returncode


if __name__ == "__main__":
    sys.exit(main())
