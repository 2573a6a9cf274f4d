import logging
from typing import Any

import pytest

from kvproxy.core.errors import ProxyError
from kvproxy.reload import Reloaded, Reloader
from kvproxy.settings.diff import Diff
from kvproxy.settings.errors import Problem, SettingsError
from kvproxy.settings.model import Settings


def settings(**sections: Any) -> Settings:
    return Settings.model_validate({"replicas": ["http://a:1"], **sections})


class Applied:
    def __init__(self, refusal: ProxyError | None = None) -> None:
        self.seen: list[Diff] = []
        self.refusal = refusal

    def __call__(self, new: Settings, found: Diff) -> list[str]:
        if self.refusal is not None:
            raise self.refusal
        self.seen.append(found)
        return ["replica b joins"] if "replicas" in found.live else []


async def test_what_changed_is_applied_and_the_rest_is_named_until_a_restart(
    caplog: pytest.LogCaptureFixture,
) -> None:
    new = settings(replicas=["http://a:1", "http://b:1"], server={"port": 1})
    applied = Applied()
    reloader = Reloader(settings(), lambda: new, applied)
    told = await reloader.reload()
    assert told == Reloaded((), ("replicas",), ("replica b joins",), ("server.port",))
    assert told.as_json()["applied"] is True
    assert "server.port" in caplog.text
    assert (await reloader.reload()) == Reloaded((), (), (), ("server.port",))
    assert applied.seen[1] == Diff((), ("server.port",))


async def test_settings_that_are_wrong_change_nothing(caplog: pytest.LogCaptureFixture) -> None:
    def load() -> Settings:
        raise SettingsError([Problem("k.yaml:3", "server.prot", "unknown key")])

    applied = Applied()
    with caplog.at_level(logging.ERROR):
        told = await Reloader(settings(), load, applied).reload()
    assert told.refused == ("k.yaml:3: server.prot: unknown key",)
    assert told.as_json()["applied"] is False
    assert not applied.seen
    assert "k.yaml:3" in caplog.text


async def test_what_cannot_be_applied_is_tried_again_with_the_next() -> None:
    applied = Applied(ProxyError("conflict", "taken"))
    reloader = Reloader(settings(), lambda: settings(replicas=["http://b:1"]), applied)
    assert (await reloader.reload()).refused == ("taken",)
    applied.refusal = None
    assert (await reloader.reload()).changed == ("replicas",)


async def test_nothing_to_read() -> None:
    assert (await Reloader(settings(), None, Applied()).reload()).refused
