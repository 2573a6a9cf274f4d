"""Whom to believe about where a request came from, which web pages may send one, and what clients
see of an answer's headers.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_address

from kvproxy.core.errors import ProxyError
from kvproxy.core.header_rules import HeaderRules, header_rules

Network = IPv4Network | IPv6Network
Headers = list[tuple[bytes, bytes]]

# Written by proxies on the way; what a client writes there is a claim.
FORWARDED = frozenset(
    {
        *("forwarded", "x-forwarded-for", "x-forwarded-host", "x-forwarded-port"),
        *("x-forwarded-proto", "x-forwarded-prefix", "x-real-ip"),
    }
)
# Engines allow every origin by default; here that is for kvproxy's own settings to say.
CORS = frozenset(
    f"access-control-{name}"
    for name in (
        *("allow-origin", "allow-credentials", "allow-headers", "allow-methods"),
        *("allow-private-network", "expose-headers", "max-age"),
    )
)
# Said by kvproxy in every answer: what engines say there is not passed on.
OURS = CORS | {"x-request-id", "x-kvproxy-replica", "x-kvproxy-decision"}
_NOT_OURS = header_rules(without=OURS)
_MAX_AGE = b"600"
_SHOWN = b"x-request-id, x-kvproxy-replica, x-kvproxy-decision, retry-after"


@dataclass(frozen=True, slots=True)
class Edge:
    """`trusted`: networks of the proxies in front. `origins`: of pages that may send requests, `*`
    for all. `answers`: which headers of a replica's answer go on; `unsaid`:
    those of our own that are not added to it."""

    trusted: tuple[Network, ...] = ()
    origins: frozenset[str] = frozenset()
    answers: HeaderRules = _NOT_OURS
    unsaid: frozenset[bytes] = frozenset()

    def trusts(self, peer: str) -> bool:
        """`peer`: the address a connection comes from, empty where there is none."""
        if not self.trusted or not peer:
            return False
        address = ip_address(peer.partition("%")[0])
        mapped = getattr(address, "ipv4_mapped", None) or address
        return any(mapped in network for network in self.trusted)

    def allows(self, header: Mapping[str, str]) -> Headers:
        """What is answered to a page whose origin may ask; nothing to all others."""
        origin = header.get("origin")
        if origin is None or not (origin in self.origins or "*" in self.origins):
            return []
        named = (b"access-control-allow-origin", origin.encode("latin-1"))
        return [named, (b"access-control-expose-headers", _SHOWN), (b"vary", b"origin")]

    def preflight(self, header: Mapping[str, str]) -> Headers:
        """The answer to a browser that asks before it asks, beside what allows() says in every
        answer. Raises ProxyError forbidden."""
        if not self.allows(header):
            why = "Web pages of this origin may not send requests (server.cors_origins)."
            raise ProxyError("forbidden", why)
        wanted = header.get("access-control-request-headers", "")
        return [
            (b"access-control-allow-methods", b"GET, POST, DELETE"),
            (b"access-control-allow-headers", wanted.encode("latin-1")),
            (b"access-control-max-age", _MAX_AGE),
        ]


NOBODY = Edge()


def unclaimed(headers: Sequence[tuple[bytes, bytes]]) -> Headers:
    """Headers without those that say where a request came from."""
    return [pair for pair in headers if pair[0].lower().decode("latin-1") not in FORWARDED]
