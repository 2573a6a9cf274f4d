"""`make audit`: what kvproxy installs beside itself, and whether it is what the index has newest.

Whatever is not is printed and fails. pip-audit knows more: where it is installed and reaches its
source, what it finds fails too. 75: no index.
"""

import importlib.metadata
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

PIP = (sys.executable, "-m", "pip", "--disable-pip-version-check")
SKIPPED = 75


def main() -> int:
    newest = resolved()
    if newest is None:
        print("no package index can be reached: nothing was checked")
        return SKIPPED
    old = 0
    for name, version in sorted(newest.items()):
        here = installed(name)
        old += here != version
        print(f"{name:24} {here:12} " + ("newest" if here == version else f"newest: {version}"))
    said = known_faults()
    print(f"{len(newest)} distributions, {old} not the newest; {said}")
    # pip-audit fails without its source, too, so its words count.
    return 1 if old or re.search(r"Found \d+ known vulnerabilit", said) else 0


def resolved() -> dict[str, str] | None:
    """What would be installed today in an empty environment, by name; None without an index."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder, "report.json")
        asked = ("install", "--dry-run", "--quiet", "--ignore-installed", "--report", str(report))
        done = subprocess.run([*PIP, *asked, "."], capture_output=True, text=True, check=False)
        if done.returncode:
            print(done.stderr.strip()[-500:])
            return None
        listed = json.loads(report.read_text())["install"]
    named = {each["metadata"]["name"]: each["metadata"]["version"] for each in listed}
    named.pop("kvproxy", None)
    return named


def installed(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "-"


def known_faults() -> str:
    """What pip-audit says, in a few words. It is no dependency: whoever has it is served better."""
    asked = [sys.executable, "-m", "pip_audit", "--progress-spinner", "off"]
    done = subprocess.run(asked, capture_output=True, text=True, check=False)
    if "No module named" in done.stderr:
        return "pip-audit is not installed"
    said = (done.stdout + done.stderr).strip().splitlines()
    return f"pip-audit: {said[-1] if said else 'silent'}"


if __name__ == "__main__":
    sys.exit(main())
