import socket
from pathlib import Path

import pytest

from kvproxy.ops.systemd import notify


@pytest.mark.parametrize("abstract", [False, True])
def test_a_supervisor_hears(tmp_path: Path, abstract: bool) -> None:
    path = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as supervisor:
        supervisor.settimeout(5)
        supervisor.bind("\0" + path if abstract else path)
        env = {"NOTIFY_SOCKET": ("@" if abstract else "") + path}
        assert notify("READY=1", "STATUS=ready", env=env)
        assert supervisor.recv(100) == b"READY=1\nSTATUS=ready"


@pytest.mark.parametrize("address", ["", "relative", "/nowhere/at/all"])
def test_nobody_listens(address: str) -> None:
    assert not notify("READY=1", env={"NOTIFY_SOCKET": address})
