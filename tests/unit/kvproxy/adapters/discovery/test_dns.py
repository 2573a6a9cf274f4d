"""Addresses by the system's resolver, services from a DNS server of our own."""

import asyncio
import socket
import struct
from typing import Any

import pytest

from kvproxy.adapters.discovery.dns import DnsSource
from kvproxy.core.discovered import Entries


async def test_addresses_of_a_name_are_told_once() -> None:
    found: list[Entries] = []
    source = DnsSource("http://localhost:8000", 1.0)
    await source.look(found.append)
    await source.look(found.append)
    [entries] = found
    assert set(entries) <= {"http://127.0.0.1:8000", "http://[::1]:8000"}
    assert entries


async def test_a_name_that_is_gone_is_gone_after_three_answers_and_a_dead_resolver_never(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found, answers = list[Entries](), [("10.0.0.1", 1)]
    source = DnsSource("http://name:1", 1.0)

    async def addresses() -> list[tuple[str, int]]:
        if answers == [("dead", 0)]:
            raise OSError("no resolver")
        return answers

    monkeypatch.setattr(source, "_addresses", addresses)
    await source.look(found.append)
    answers[:] = [("dead", 0)]
    for _ in range(5):
        await source.look(found.append)
    answers.clear()
    await source.look(found.append)
    await source.look(found.append)
    assert found == [["http://10.0.0.1:1"]]
    await source.look(found.append)
    assert found == [["http://10.0.0.1:1"], []]


def _name(text: str) -> bytes:
    return b"".join(bytes([len(p)]) + p.encode() for p in text.split(".")) + b"\0"


class Server(asyncio.DatagramProtocol):
    """Four SRV records, whose targets have an address each, the third one of IPv6, and the last
    none."""

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        end = data.index(b"\0", 12) + 5
        question, kind = data[12:end], struct.unpack(">H", data[end - 4 : end - 2])[0]
        rows = []
        if kind == 33:
            places = {8000 + n: _name(f"r{n}.x") for n in (1, 2, 3, 4)}
            rows = [(33, struct.pack(">HHH", 0, 0, p) + name) for p, name in places.items()]
        else:
            number = int(chr(data[14]))
            if kind == 1 and number <= 2:
                rows.append((1, bytes([10, 0, 0, number])))
            elif kind == 28 and number == 3:
                rows.append((28, bytes([0xFD, *[0] * 14, number])))
        answers = b"".join(
            b"\xc0\x0c" + struct.pack(">HHIH", kind, 1, 0, len(row)) + row for kind, row in rows
        )
        head = data[:2] + struct.pack(">HHHHH", 0x8180, 1, len(rows), 0, 0)
        self._transport.sendto(head + question + answers, addr)


async def test_services_name_hosts_and_ports() -> None:
    loop, found = asyncio.get_running_loop(), list[Entries]()
    transport, _ = await loop.create_datagram_endpoint(Server, local_addr=("127.0.0.1", 0))
    address = "127.0.0.1:{}".format(transport.get_extra_info("sockname")[1])
    await DnsSource("srv+http://_http._tcp.x", 1.0, [address]).look(found.append)
    transport.close()
    there = ["http://10.0.0.1:8001", "http://10.0.0.2:8002", "http://[fd00::3]:8003"]
    assert found == [there]


@pytest.mark.parametrize("errno", [socket.EAI_NONAME, socket.EAI_NODATA])
async def test_a_name_without_addresses_has_lost_its_replicas(
    errno: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A Service without pods has a name and no address."""
    found: list[Entries] = []
    source = DnsSource("http://localhost:8000", 1.0)
    await source.look(found.append)

    async def getaddrinfo(*_: object, **__: object) -> list[Any]:
        raise socket.gaierror(errno, "nothing")

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)
    for _ in range(3):
        await source.look(found.append)
    assert found[1:] == [[]]
