"""The certificates that settings name, for clients and for replicas."""

import ssl
from collections.abc import Callable

from kvproxy.adapters.http1.tls import ServerTls, TlsError, TlsFiles, client_context, refresh
from kvproxy.core.errors import ProxyError
from kvproxy.settings.model import Settings


class Certificates:
    """`listening` is None where clients connect without TLS. Raises TlsError."""

    def __init__(self, settings: Settings) -> None:
        server = settings.server
        files = TlsFiles(server.tls_cert, server.tls_key, server.tls_client_ca)
        self._server = ServerTls(files) if files.cert else None
        self.upstream = client_context(_upstream(settings), verify=settings.upstream.tls_verify)

    @property
    def listening(self) -> ssl.SSLContext | None:
        return self._server.context if self._server is not None else None

    def read_again(self, settings: Settings) -> Callable[[], None]:
        """Reads all files; what is returned takes them over. Raises ProxyError conflict."""
        server = self._server
        try:
            fresh = server.read() if server is not None else None
            refresh(self.upstream, _upstream(settings))
        except TlsError as error:
            raise ProxyError("conflict", str(error)) from error

        def take_over() -> None:
            if server is not None and fresh is not None:
                server.use(fresh)

        return take_over


def _upstream(settings: Settings) -> TlsFiles:
    upstream = settings.upstream
    return TlsFiles(upstream.tls_cert, upstream.tls_key, upstream.tls_ca)
