from typing import Any

import pytest

from kvproxy.settings.cautions import cautions
from kvproxy.settings.model import Settings

KEY: dict[str, Any] = {"name": "a", "sha256": "0" * 64}
ADMIN = {"keys": [KEY | {"admin": True}]}
OPEN = {"host": "0.0.0.0"}


def said(**sections: Any) -> list[str]:
    return list(cautions(Settings.model_validate({"replicas": ["http://a:1"], **sections})))


def test_nothing_is_said_of_defaults_and_of_what_is_closed() -> None:
    assert said() == []
    assert said(server={"host": "::1"}) == []
    assert said(server=OPEN, access=ADMIN) == []
    assert said(server=OPEN | {"tls_cert": "c", "tls_client_ca": "ca"}) == []


@pytest.mark.parametrize(
    ("sections", "words"),
    [
        ({}, "0.0.0.0:8080 may send prompts, see /admin and /metrics and command engines"),
        ({"admin": {"listen": "h:1"}}, "may send prompts and command engines"),
        ({"access": {"engine_commands": False}}, "may send prompts, see /admin and /metrics"),
    ],
)
def test_an_open_listener_without_keys(sections: dict[str, Any], words: str) -> None:
    [line] = said(server=OPEN, **sections)
    assert line.endswith(words)


def test_keys_without_one_for_operators() -> None:
    [line] = said(access={"keys": [KEY]})
    assert "admin: true" in line


def test_replicas_that_are_not_checked() -> None:
    [line] = said(upstream={"tls_verify": False})
    assert line.startswith("upstream.tls_verify is off")
