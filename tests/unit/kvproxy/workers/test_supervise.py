"""The supervisor with children that do as they are told."""

import errno
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from kvproxy.settings.model import Settings
from kvproxy.workers import supervise
from kvproxy.workers.supervise import Child, Supervisor, reserve


def test_a_port_is_kept_and_shared_by_nobody_else() -> None:
    holders, port = reserve("127.0.0.1", 0)
    sharer = socket.socket()
    sharer.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    sharer.bind(("127.0.0.1", port))
    sharer.listen()
    with pytest.raises(OSError, match="in use"):
        reserve("127.0.0.1", port)
    for each in (*holders, sharer):
        each.close()


RUNNER = """
import os, signal, sys
from kvproxy.workers.supervise import Child, Supervisor

def child(life):
    life.send(b"there")
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    life.recv(1)
    return 0

def dies(life):
    return 3

what = sys.argv[1]
run = dies if what == "dies" else child
supervisor = Supervisor([Child("placement", run), Child("w0", child), Child("w1", child)], 60.0,
    lambda url: print("ready", url, flush=True))
sys.exit(supervisor.run())
"""


class Supervised:
    def __init__(self, what: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", RUNNER, what], stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )

    def children(self) -> list[int]:
        pid = self.process.pid
        return [int(p) for p in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]

    def line(self) -> bytes:
        assert self.process.stdout is not None
        return self.process.stdout.readline()

    def end(self) -> tuple[int, str]:
        _, err = self.process.communicate(timeout=20)
        return self.process.returncode, err.decode()


def until(check: object) -> None:
    until_at = time.monotonic() + 20
    while not check():  # type: ignore[operator]
        assert time.monotonic() < until_at
        time.sleep(0.01)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_it_starts_restarts_and_ends_with_its_children() -> None:
    supervised = Supervised("lives")
    assert supervised.line() == b"ready there\n"
    first = supervised.children()
    assert len(first) == 3
    for pid in first:
        os.kill(pid, signal.SIGKILL)
        until(lambda pid=pid: len(now := supervised.children()) == 3 and pid not in now)
    supervised.process.terminate()
    status, _ = supervised.end()
    assert status == 0


def test_what_ends_before_it_was_ready_ends_it_all() -> None:
    supervised = Supervised("dies")
    assert supervised.line() == b""
    status, err = supervised.end()
    assert (status, "placement ended with 3" in err) == (1, True)


def test_children_end_with_their_supervisor() -> None:
    supervised = Supervised("lives")
    supervised.line()
    children = supervised.children()
    supervised.process.kill()
    until(lambda: not any(alive(pid) for pid in children))
    supervised.end()


def test_a_second_signal_means_now() -> None:
    supervised = Supervised("lives")
    supervised.line()
    children = supervised.children()
    os.kill(children[1], signal.SIGSTOP)
    supervised.process.terminate()
    until(lambda: len(supervised.children()) < 3)
    supervised.process.terminate()
    status, _ = supervised.end()
    assert status == -signal.SIGTERM
    assert not any(alive(pid) for pid in children)


def test_a_place_that_cannot_be_written_to_is_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As in a container whose file system is read-only."""
    monkeypatch.setattr("tempfile.tempdir", "/no/such/folder")
    server = {"port": 0, "workers": 2}
    assert (
        supervise.run(Settings.model_validate({"replicas": ["http://h:1"], "server": server})) == 1
    )
    assert "TMPDIR" in capsys.readouterr().err


def test_failures_in_a_row_wait_longer() -> None:
    assert supervise._FIRST_DELAY_S * 2**10 > supervise._LONGEST_DELAY_S
    child = Child("w", lambda life: 0)
    supervisor = Supervisor([Child("p", lambda life: 0), child], 1.0, lambda url: None)
    supervisor._began = True
    delays = []
    for _ in range(4):
        child.pid = os.spawnlp(os.P_NOWAIT, "false", "false")
        child.began_at = time.monotonic()
        until(lambda: (supervisor._reap(), child.pid == 0)[1])
        delays.append(child.due_at - time.monotonic())
    assert delays == sorted(delays)
    assert delays[-1] > 4 * delays[0]
    # One that dies for hours.
    child.failures = 5000
    child.pid = os.spawnlp(os.P_NOWAIT, "false", "false")
    child.began_at = time.monotonic()
    until(lambda: (supervisor._reap(), child.pid == 0)[1])
    assert 9.0 < child.due_at - time.monotonic() <= supervise._LONGEST_DELAY_S


def test_a_process_that_the_system_has_no_room_for_comes_later(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def none() -> int:
        raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")

    child = Child("w", lambda life: 0)
    supervisor = Supervisor([child], 1.0, lambda url: None)
    monkeypatch.setattr(os, "fork", none)
    supervisor._start(child)
    assert (child.pid, child.life) == (0, None)
    assert 0.0 < child.due_at - time.monotonic() < 1.0
    assert "no w: Resource temporarily unavailable" in caplog.text
    assert signal.SIGTERM not in signal.pthread_sigmask(signal.SIG_BLOCK, [])
