import click
import pytest

from kvproxy.cli.admin_key import headers


def test_the_key_is_that_of_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPS_KEY", "secret")
    assert headers("OPS_KEY") == {"authorization": "Bearer secret"}
    assert headers(None) == {}
    monkeypatch.setenv("OPS_KEY", "")
    with pytest.raises(click.UsageError, match="OPS_KEY is not set"):
        headers("OPS_KEY")
