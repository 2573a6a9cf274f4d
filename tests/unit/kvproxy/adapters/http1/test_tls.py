import ssl
from contextlib import suppress
from pathlib import Path

import pytest
import trustme
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from kvproxy.adapters.http1.tls import ServerTls, TlsError, TlsFiles, client_context, refresh
from tests.support.certificates import write, write_ca


def test_files_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    cert, _ = write(trustme.CA().issue_cert("a"), tmp_path, "a")
    _, other = write(trustme.CA().issue_cert("b"), tmp_path, "b")
    (tmp_path / "junk.pem").write_text("junk")
    for files, named in (
        (TlsFiles(str(tmp_path / "none.pem")), "none.pem: No such file"),
        (TlsFiles(cert, other), "a.pem with .*b.key"),
        (TlsFiles(str(tmp_path / "junk.pem")), "junk.pem"),
    ):
        with pytest.raises(TlsError, match=named):
            ServerTls(files)
    with pytest.raises(TlsError, match="junk"):
        client_context(TlsFiles(ca=str(tmp_path / "junk.pem")), verify=True)


def test_nobody_is_asked_for_a_passphrase(tmp_path: Path) -> None:
    cert, key = write(trustme.CA().issue_cert("a"), tmp_path, "a")
    plain = load_pem_private_key(Path(key).read_bytes(), None)
    how = (Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret"))
    Path(key).write_bytes(plain.private_bytes(*how))
    with pytest.raises(TlsError, match=r"a\.key: the key is encrypted"):
        ServerTls(TlsFiles(cert, key))


def test_without_verification_nobody_is_asked_for_a_certificate() -> None:
    assert client_context(TlsFiles(), verify=True).verify_mode is ssl.CERT_REQUIRED
    assert client_context(TlsFiles(), verify=False).verify_mode is ssl.CERT_NONE


def test_another_certificate_is_taken_with_the_next_handshake(tmp_path: Path) -> None:
    one, two = trustme.CA(), trustme.CA()
    cert, key = write(one.issue_cert("localhost"), tmp_path, "server")
    server = ServerTls(TlsFiles(cert, key))
    client = client_context(TlsFiles(ca=write_ca(one, tmp_path)), verify=True)
    shake(server.context, client)
    write(two.issue_cert("localhost"), tmp_path, "server")
    shake(server.context, client)
    server.use(server.read())
    with pytest.raises(ssl.SSLCertVerificationError):
        shake(server.context, client)
    refresh(client, TlsFiles(ca=write_ca(two, tmp_path, "two")))
    shake(server.context, client)


def shake(server: ssl.SSLContext, client: ssl.SSLContext) -> None:
    """A handshake in memory."""
    ours, theirs = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [
        server.wrap_bio(theirs, ours, server_side=True),
        client.wrap_bio(ours, theirs, server_hostname="localhost"),
    ]
    for _ in range(4):
        for end in ends:
            with suppress(ssl.SSLWantReadError):
                end.do_handshake()
