"""`python -m tests.newcomer`: types README's first steps in a fresh clone and says what they took.

It installs what pip installs and needs the ports that README names: 75 where they are taken.
"""

import os
import re
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
HEADING = "## First steps"
PORTS = (8001, 8002, 8080)
TEMPORARY_FAILURE = 75
TIMEOUT_S = 1800
# The client had too little of a core to be believed: a report all the same.
INVALID = 3


def typed(readme: str) -> list[str]:
    """The lines of code under the heading, continued ones as one."""
    section = readme.partition(f"{HEADING}\n")[2].partition("\n## ")[0]
    blocks = re.findall(r"^```sh\n(.*?)^```", section, re.MULTILINE | re.DOTALL)
    return "".join(blocks).replace("\\\n", " ").splitlines()


def main() -> int:
    taken = [port for port in PORTS if _is_taken(port)]
    if taken:
        print(f"newcomer: SKIPPED: ports {taken} are taken", file=sys.stderr)
        return TEMPORARY_FAILURE
    commands = ["git clone", *typed((ROOT / "README.md").read_text())]
    with tempfile.TemporaryDirectory() as folder:
        clone = Path(folder) / "kvproxy"
        began = time.time()
        subprocess.run(["git", "clone", "-q", str(ROOT), str(clone)], check=True)
        steps = [(0, time.time()), *_type(commands[1:], clone, Path(folder) / "steps")]
        return _tell(commands, steps, began, (clone / "out/run/report.html").exists())


def _type(commands: list[str], clone: Path, marks: Path) -> list[tuple[int, float]]:
    """Exit status and time of each command's end, as one shell runs them after another."""
    lines = [f'{command}\necho "$? $EPOCHREALTIME" >> {marks}' for command in commands]
    script = "\n".join(["trap 'kill $(jobs -p); wait' EXIT", *lines])
    environment = {n: v for n, v in os.environ.items() if n not in ("VIRTUAL_ENV", "PYTHONPATH")}
    subprocess.run(
        ["bash", "-c", script], cwd=clone, env=environment, check=False, timeout=TIMEOUT_S
    )
    ended = [line.split() for line in marks.read_text().splitlines()]
    return [(int(status), float(at.replace(",", "."))) for status, at in ended]


def _tell(commands: list[str], steps: list[tuple[int, float]], began: float, reported: bool) -> int:
    print()
    before = began
    for number, (command, (status, at)) in enumerate(zip(commands, steps, strict=False), 1):
        short = " ".join(command.split())[:80]
        print(f"{number:3}  {at - before:6.1f} s  {short}{_remark(status)}")
        before = at
    wrong = [status for status, _ in steps if status not in (0, INVALID)]
    if wrong or len(steps) < len(commands) or not reported:
        print("newcomer: did not get there", file=sys.stderr)
        return 1
    request = next(n for n, command in enumerate(commands) if command.startswith("curl"))
    for what, number in (("routed request", request), ("report", len(commands) - 1)):
        minutes = (steps[number][1] - began) / 60
        print(f"first {what}: {number + 1} commands, {minutes:.1f} minutes")
    return 0


def _remark(status: int) -> str:
    if status == INVALID:
        return "  (the client had too little of a core)"
    return f"  FAILED: {status}" if status else ""


def _is_taken(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


if __name__ == "__main__":
    sys.exit(main())
