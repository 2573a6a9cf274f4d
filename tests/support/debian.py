"""Programs of Debian packages for tests that run them, without a service being started."""

import os
import shutil
import subprocess
from pathlib import Path

TIMEOUT_S = 300


def apt_get(*arguments: str, cwd: Path | None = None) -> bool:
    """Whether apt-get did it; its lists are brought up to date when it first could not."""
    if shutil.which("apt-get") is None:
        return False
    sudo = [] if os.geteuid() == 0 else ["sudo", "-n"]
    options = ["-qq", "-o", f"DPkg::Lock::Timeout={TIMEOUT_S}"]
    command = ["env", "DEBIAN_FRONTEND=noninteractive", "apt-get", *options]
    wanted = [*([] if arguments[0] == "download" else sudo), *command, *arguments]
    for words in (wanted, [*sudo, *command, "update"], wanted):
        try:
            done = subprocess.run(words, cwd=cwd, capture_output=True, check=False)
        except OSError:
            continue
        if words is wanted and done.returncode == 0:
            return True
    return False


def unpacked(package: str, program: str, folder: Path) -> Path | None:
    """`program` of `package`, unpacked below `folder`: installing it would start a service."""
    found = folder / package / "usr" / "bin" / program
    if found.exists():
        return found
    folder.mkdir(parents=True, exist_ok=True)
    if not apt_get("download", package, cwd=folder):
        return None
    for file in folder.glob(f"{package}_*.deb"):
        unpack = ["dpkg", "-x", file.name, package]
        if subprocess.run(unpack, cwd=folder, check=False).returncode == 0 and found.exists():
            return found
    return None
