from ipaddress import ip_network

import pytest

from kvproxy.adapters.http1.edge import CORS, NOBODY, Edge, unclaimed
from kvproxy.core.errors import ProxyError

ONE = Edge(origins=frozenset({"https://chat.example"}))
ALL = Edge(origins=frozenset({"*"}))


@pytest.mark.parametrize(
    ("peer", "trusted"),
    [
        ("10.1.2.3", True),
        ("11.1.2.3", False),
        ("::ffff:10.1.2.3", True),
        ("fd00::7", True),
        ("fe80::1%eth0", False),
        ("", False),
    ],
)
def test_only_proxies_of_named_networks_are_believed(peer: str, trusted: bool) -> None:
    edge = Edge((ip_network("10.0.0.0/8"), ip_network("fd00::/8")))
    assert edge.trusts(peer) is trusted
    assert not NOBODY.trusts(peer)


def test_claims_are_dropped_and_nothing_else() -> None:
    headers = [(b"X-Forwarded-For", b"1"), (b"x-Real-IP", b"2"), (b"Forwarded", b"3")]
    kept = [(b"Host", b"a"), (b"x-session-id", b"s"), (b"\xff", b"x")]
    assert unclaimed([*headers, *kept]) == kept


def test_pages_of_named_origins_may_ask() -> None:
    asked = {"origin": "https://chat.example", "access-control-request-headers": "authorization"}
    for edge in (ONE, ALL):
        answered = dict(edge.preflight(asked))
        assert dict(edge.allows(asked))[b"access-control-allow-origin"] == b"https://chat.example"
        # It is in every answer: browsers refuse one that has it twice.
        assert b"access-control-allow-origin" not in answered
        assert answered[b"access-control-allow-headers"] == b"authorization"
        assert b"access-control-allow-credentials" not in answered
    for edge, header in ((ONE, {"origin": "https://evil"}), (NOBODY, asked), (ALL, {})):
        assert edge.allows(header) == []
        with pytest.raises(ProxyError, match="cors_origins"):
            edge.preflight(header)


def test_what_replicas_allow_is_known_by_name() -> None:
    assert all(name.startswith("access-control-") for name in CORS)
