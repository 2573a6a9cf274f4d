"""deploy/CLIENTS.md names what the tests with real agents set."""

import json
from pathlib import Path

import pytest

from kvproxy.settings.model import Settings
from tests.agents.programs import PROGRAMS, Program

PAGE = (Path(__file__).parents[2] / "deploy/CLIENTS.md").read_text()
# What only tests need: run as root, with all settings in one variable, asking nobody for models.
OF_TESTS = {"IS_SANDBOX", "KEY", "OPENCODE_CONFIG_CONTENT", "OPENCODE_DISABLE_MODELS_FETCH"}


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.name)
def test_every_setting_is_on_the_page(program: Program) -> None:
    settings = program.settings("http://kvproxy:8080")
    assert [name for name in settings.keys() - OF_TESTS if name not in PAGE] == []
    told = json.loads(settings.get("OPENCODE_CONFIG_CONTENT", "{}")).get("provider", {})
    assert all(f'"{word}"' in PAGE for word in told.get("kvproxy", {}))
    options = " ".join(program.begin("http://kvproxy:8080", "x"))
    for word in ("model_provider", "wire_api", "env_key", "base_url"):
        assert (word in options) <= (f"{word} = " in PAGE)


def test_the_headers_that_it_names_are_known() -> None:
    known = Settings(replicas=["http://a:1"]).identify.session_headers
    for header in ("x-claude-code-session-id", "thread-id", "x-session-id"):
        assert f"`{header}`" in PAGE
        assert header in known
