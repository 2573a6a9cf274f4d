"""What settings allow that nobody may have meant: said at a start and by `kvproxy check-config`."""

from collections.abc import Iterator

from kvproxy.settings.model import Settings

_LOOPBACK = ("127.0.0.1", "::1", "localhost")


def cautions(settings: Settings) -> Iterator[str]:
    """A sentence each, with the key that mends it. Nothing of it keeps a proxy from working."""
    server, keys = settings.server, settings.access.keys
    if not keys and server.host not in _LOOPBACK and not server.tls_client_ca:
        operating = "" if settings.admin.listen else ", see /admin and /metrics"
        commands = " and command engines" if settings.access.engine_commands else ""
        yield (
            f"no access.keys: whoever reaches {server.host}:{server.port} may send prompts"
            f"{operating}{commands}"
        )
    if keys and not any(key.admin for key in keys):
        yield "no key of access.keys has `admin: true`: /admin is open to nobody"
    if not settings.upstream.tls_verify:
        yield "upstream.tls_verify is off: whoever is on the way to a replica may be taken for it"
