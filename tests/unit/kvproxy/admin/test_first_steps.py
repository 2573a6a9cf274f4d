import asyncio
import logging
import sys
from types import SimpleNamespace
from typing import Any

import pytest

from kvproxy.admin import first_steps as module
from kvproxy.admin.first_steps import first_steps, where_to_look
from kvproxy.settings.model import Settings

URL, OPERATORS = "http://127.0.0.1:8080", "http://127.0.0.1:9000"


def made(**sections: Any) -> Settings:
    return Settings.model_validate({"replicas": ["http://a:1"], **sections})


@pytest.fixture
def told(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.setattr(logging.getLogger("kvproxy"), "propagate", True)
    monkeypatch.setattr(module, "_LOOK_S", 0.001)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    caplog.set_level(logging.INFO, "kvproxy")
    return caplog.messages


async def test_a_person_is_told_where_to_look_after_the_first_answer(
    caplog: pytest.LogCaptureFixture, told: list[str]
) -> None:
    answers = 0
    task = first_steps(made(), URL, None, lambda: answers)
    await asyncio.sleep(0.02)
    assert [message.partition(":")[0] for message in caplog.messages] == ["clients"]
    answers = 1
    await asyncio.wait_for(task, 10)
    assert len(caplog.messages) == 2
    said = caplog.messages[1]
    for part in (
        f"{URL}/admin/",
        f"{URL}/metrics",
        f"kvproxy top --url {URL}`",
        "kvproxy doctor --probe --replica http://a:1`",
    ):
        assert part in said


async def test_operators_have_their_own_address(
    caplog: pytest.LogCaptureFixture, told: list[str]
) -> None:
    task = first_steps(made(), URL, SimpleNamespace(url=OPERATORS), lambda: 1)
    await asyncio.wait_for(task, 10)
    assert f"{URL}/v1" in caplog.messages[0]
    assert f"{OPERATORS}/admin/" in caplog.messages[1]


@pytest.mark.parametrize("quiet", ["a pipe", "json"])
async def test_nobody_else_hears_of_it(
    quiet: str,
    caplog: pytest.LogCaptureFixture,
    told: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if quiet == "a pipe":
        monkeypatch.setattr(sys.stderr, "isatty", lambda: False, raising=False)
    settings = made(log={"format": "json"}) if quiet == "json" else made()
    await asyncio.wait_for(first_steps(settings, URL, None, lambda: 0), 10)
    assert not caplog.messages


def test_many_replicas_are_in_a_file_and_keys_are_asked_for() -> None:
    replicas = [f"http://a:{port}" for port in range(1, 9)]
    key = {"name": "ops", "sha256": "0" * 64, "admin": True}
    said = where_to_look(made(replicas=replicas, access={"keys": [key]}), OPERATORS)
    assert "doctor --probe --config FILE`" in said
    assert "--api-key-env NAME`" in said
