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


def test_origins_are_as_browsers_write_them() -> None:
    """Any other would match nothing, and nobody would be told."""
    good = ["*", "null", "https://chat.example", "http://localhost:3000", "vscode-webview://abc"]
    assert ServerSettings.model_validate({"cors_origins": good}).cors_origins == tuple(good)
    for bad in ("chat.example", "https://chat.example/", "https://Chat.example", "https://"):
        with pytest.raises(ValidationError):
            ServerSettings.model_validate({"cors_origins": [bad]})
