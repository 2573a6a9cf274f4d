import pytest

from kvproxy.cli.settings_file import SettingsFailure, load_or_exit


def test_the_environment_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KVPROXY_REPLICAS", '["http://a:1"]')
    assert load_or_exit(None).settings.replicas[0].id == "a:1"


def test_mistakes_end_the_command_with_code_2(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KVPROXY_LOG__LEVEL", "loud")
    with pytest.raises(SettingsFailure, match=r"KVPROXY_LOG__LEVEL: log\.level") as raised:
        load_or_exit(None)
    assert raised.value.exit_code == 2
