import pytest
from pydantic import ValidationError

from kvproxy.settings.header_names import CLIENT_SECRETS
from kvproxy.settings.server import ServerSettings, UpstreamSettings


def test_defaults_drop_what_logs_people_in_and_need_no_pass_of_their_own() -> None:
    assert UpstreamSettings().drop_headers == CLIENT_SECRETS
    assert ServerSettings().drop_headers == ("set-cookie",)
    assert not any(rule.endswith("*") for rule in CLIENT_SECRETS)
    assert UpstreamSettings().allow_headers == ()


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        ("content-type", "'content-type' would drop content-type"),
        ("Content-*", "'Content-\\*' would drop content-encoding"),
        ("*", "would drop connection"),
        ("sec-*", "would drop sec-websocket-accept"),
        ("x y", "match pattern"),
        ("", "match pattern"),
        ("a*b", "match pattern"),
        ("x-a\r\nx-b", "match pattern"),
    ],
)
def test_rules_that_cannot_be_are_refused(rule: str, said: str) -> None:
    for settings in (ServerSettings, UpstreamSettings):
        with pytest.raises(ValidationError, match=said):
            settings.model_validate({"drop_headers": [rule]})


def test_all_may_be_let_pass() -> None:
    settings = UpstreamSettings.model_validate({"allow_headers": ["*"], "drop_headers": []})
    assert settings.allow_headers == ("*",)
