import pytest
from pydantic import ValidationError

from kvproxy.settings.server import ServerSettings, UpstreamSettings


def test_keys_and_cas_need_a_certificate() -> None:
    assert ServerSettings(tls_cert="a.pem", tls_key="a.key").tls_client_ca == ""
    for alone in ("tls_key", "tls_client_ca"):
        with pytest.raises(ValidationError, match="need a tls_cert"):
            ServerSettings.model_validate({alone: "x.pem"})


def test_replicas_are_checked_unless_told_otherwise() -> None:
    assert UpstreamSettings().tls_verify
    assert not UpstreamSettings().continue_streams
