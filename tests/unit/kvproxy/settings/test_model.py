import pytest
from pydantic import SecretStr, ValidationError

from kvproxy.settings.model import Settings
from kvproxy.settings.tree import leaves


def test_defaults_need_only_a_replica() -> None:
    settings = Settings.model_validate({"replicas": ["http://a:1"]})
    assert (settings.server.host, settings.server.port) == ("127.0.0.1", 8080)
    assert settings.policy.name == "seconds"
    assert settings.identify.session_headers[0] == "x-claude-code-session-id"
    assert settings.upstream.keepalive_s < 5, "vLLM closes idle connections after 5 s"


def test_every_key_says_why_to_change_it() -> None:
    for leaf in leaves(Settings):
        assert len(leaf.field.description or "") > 20, leaf.path


def test_defaults_are_valid() -> None:
    dumped = Settings.model_validate({"replicas": ["http://a:1"]}).model_dump()
    assert Settings.model_validate(dumped).model_dump() == dumped


def test_settings_cannot_be_changed() -> None:
    settings = Settings.model_validate({"replicas": ["http://a:1"]})
    with pytest.raises(ValidationError, match="frozen"):
        settings.server.port = 1  # type: ignore[misc]


def test_secrets_are_not_shown() -> None:
    settings = Settings.model_validate(
        {
            "replicas": [{"url": "http://a:1", "api_key": "hunter2"}],
            "upstream": {"api_key": SecretStr("hunter3")},
        }
    )
    assert "hunter" not in repr(settings)
    assert settings.replicas[0].api_key is not None
    assert settings.replicas[0].api_key.get_secret_value() == "hunter2"


@pytest.mark.parametrize(
    "replicas",
    [
        ["http://a:80", "http://A"],
        [{"url": "http://a", "id": "x"}, {"url": "http://b", "id": "x"}],
        [],
    ],
)
def test_replicas_differ_and_there_is_one(replicas: list[object]) -> None:
    with pytest.raises(ValidationError):
        Settings.model_validate({"replicas": replicas})


@pytest.mark.parametrize(
    "bad",
    [
        {"server": {"port": 65536}},
        {"server": {"host": ""}},
        {"policy": {"name": "fastest"}},
        {"canonical": {"order": "random"}},
        {"identify": {"session_headers": ["a b"]}},
        {"blocks": {"block_bytes": 1}},
        {"nonsense": {}},
        {"server": {"nonsense": 1}},
    ],
)
def test_bounds(bad: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Settings.model_validate({"replicas": ["http://a:1"]} | bad)
