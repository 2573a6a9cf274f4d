"""Telling a supervisor how it goes: systemd's notify protocol, one datagram a message."""

import os
import socket
from collections.abc import Mapping


def notify(*states: str, env: Mapping[str, str] = os.environ) -> bool:
    """Sends `READY=1`, `STOPPING=1`, `STATUS=…`; nothing where nobody supervises.

    False where it could not be sent: a server does not end because its supervisor does not listen.
    """
    address = env.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return False
    # A leading @ is the abstract namespace.
    path = "\0" + address[1:] if address.startswith("@") else address
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as out:
            out.settimeout(1.0)
            out.sendto("\n".join(states).encode(), path)
    except OSError:
        return False
    return True
