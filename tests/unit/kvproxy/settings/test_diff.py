from typing import Any

import pytest

from kvproxy.settings.diff import LIVE, Diff, diff, taken_over
from kvproxy.settings.model import Settings
from kvproxy.settings.tree import leaves


def settings(**sections: Any) -> Settings:
    return Settings.model_validate({"replicas": ["http://a:1"], **sections})


def test_equal_settings_differ_in_nothing() -> None:
    one = settings(upstream={"api_key": "secret"})
    assert diff(one, settings(upstream={"api_key": "secret"})) == Diff((), ())


@pytest.mark.parametrize(
    ("sections", "live", "restart"),
    [
        ({"replicas": ["http://b:1"]}, ("replicas",), ()),
        ({"log": {"level": "debug", "format": "json"}}, ("log.level",), ("log.format",)),
        ({"server": {"port": 1}}, (), ("server.port",)),
        ({"upstream": {"api_key": "new"}}, ("upstream.api_key",), ()),
        ({"admission": {"queue_max": 5}}, ("admission.queue_max",), ()),
    ],
)
def test_every_change_is_named(
    sections: dict[str, Any], live: tuple[str, ...], restart: tuple[str, ...]
) -> None:
    assert diff(settings(), settings(**sections)) == Diff(live, restart)


def test_what_needs_a_restart_stays() -> None:
    new = settings(replicas=["http://b:1"], server={"port": 1}, log={"level": "error"})
    running = taken_over(settings(), new)
    assert running.replicas == new.replicas
    assert running.log.level == "error"
    assert running.server.port == 8080
    assert diff(running, new) == Diff((), ("server.port",))


def test_live_keys_exist() -> None:
    assert {leaf.path for leaf in leaves(Settings)} >= LIVE
