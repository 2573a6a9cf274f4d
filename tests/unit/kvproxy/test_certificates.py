from pathlib import Path
from typing import Any

import pytest
import trustme

from kvproxy.adapters.http1.tls import TlsError
from kvproxy.certificates import Certificates
from kvproxy.core.errors import ProxyError
from kvproxy.settings.model import Settings
from tests.support.certificates import write


def settings(**sections: Any) -> Settings:
    return Settings.model_validate({"replicas": ["http://a:1"], **sections})


def test_without_a_certificate_clients_connect_without_tls() -> None:
    certificates = Certificates(settings())
    assert certificates.listening is None
    certificates.read_again(settings())()


def test_what_cannot_be_read_again_changes_nothing(tmp_path: Path) -> None:
    cert, key = write(trustme.CA().issue_cert("a"), tmp_path, "a")
    given = settings(server={"tls_cert": cert, "tls_key": key})
    certificates = Certificates(given)
    context = certificates.listening
    certificates.read_again(given)()
    Path(key).unlink()
    with pytest.raises(ProxyError, match=r"a\.key"):
        certificates.read_again(given)
    assert certificates.listening is context
    with pytest.raises(TlsError):
        Certificates(given)


def test_a_key_alone_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="need a tls_cert"):
        settings(server={"tls_key": "x"})
