"""TLS on both sides: certificates that can be read again while connections live."""

import ssl
from dataclasses import dataclass
from typing import Any


class TlsError(Exception):
    """A certificate, key or CA that cannot be used; the message says which and why."""


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """Paths, empty where there is none. `ca`: whom the other side's certificate is checked with."""

    cert: str = ""
    key: str = ""
    ca: str = ""


class ServerTls:
    """What clients meet. `context` stays the same; reload() changes what its handshakes use, so
    that the listener goes on as it is."""

    def __init__(self, files: TlsFiles) -> None:
        """Raises TlsError."""
        self._files = files
        self._current = self.read()
        self.context = _server_context(files)
        self.context.sni_callback = self._choose

    def read(self) -> ssl.SSLContext:
        """The files as they are now. Raises TlsError."""
        return _server_context(self._files)

    def use(self, context: ssl.SSLContext) -> None:
        """What read() gave, from the next handshake on."""
        self._current = context

    def _choose(self, connection: Any, name: str | None, context: ssl.SSLContext) -> None:
        connection.context = self._current


def client_context(files: TlsFiles, *, verify: bool) -> ssl.SSLContext:
    """How replicas are met. Raises TlsError."""
    context = ssl.create_default_context()
    # HTTP/1.1 is all that is spoken here, and so all that is offered.
    context.set_alpn_protocols(["http/1.1"])
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    refresh(context, files)
    return context


def refresh(context: ssl.SSLContext, files: TlsFiles) -> None:
    """Reads the files again; CAs are added to those that were known. Raises TlsError."""
    if files.ca:
        _load(lambda: context.load_verify_locations(files.ca), files.ca)
    if files.cert:
        key = files.key or files.cert

        def passphrase() -> str:
            # By itself OpenSSL asks at the terminal, and waits.
            raise TlsError(f"{key}: the key is encrypted, and nobody is asked for a passphrase")

        _load(
            lambda: context.load_cert_chain(files.cert, key, password=passphrase),
            files.cert,
            files.key,
        )


def _server_context(files: TlsFiles) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    if files.ca:
        context.verify_mode = ssl.CERT_REQUIRED
    refresh(context, files)
    return context


def _load(load: Any, *files: str) -> None:
    try:
        load()
    except (OSError, ssl.SSLError) as error:
        why = error.strerror if isinstance(error, FileNotFoundError | PermissionError) else error
        raise TlsError(f"{' with '.join(filter(None, files))}: {why}") from error
