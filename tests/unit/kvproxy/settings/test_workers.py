"""Keys about several processes stand in the section `server`."""

import pytest
from pydantic import ValidationError

from kvproxy.settings.model import ServerSettings, Settings
from kvproxy.settings.workers import WorkerKeys


def test_one_process_unless_asked() -> None:
    assert WorkerKeys().workers == ServerSettings().workers == 1
    assert ServerSettings(workers=4).workers == 4


@pytest.mark.parametrize("given", [{"workers": 0}, {"workers": 257}, {"hop_silence_s": 0.5}])
def test_bounds(given: dict[str, float]) -> None:
    with pytest.raises(ValidationError):
        ServerSettings.model_validate(given)


@pytest.mark.parametrize(
    ("section", "given"),
    [
        ("disagg", {"connector": "nixl"}),
        ("decisions", {"path": "decisions.jsonl"}),
        ("tokens", {"return_token_ids": True}),
        ("store", {"url": "redis://a:1"}),
    ],
)
def test_what_processes_do_not_pass_on_needs_one(section: str, given: dict[str, object]) -> None:
    tree = {"replicas": ["http://a:1"], section: given}
    assert Settings.model_validate(tree).server.workers == 1
    with pytest.raises(ValidationError, match=rf"must be 1 where {section}\."):
        Settings.model_validate({**tree, "server": {"workers": 2}})


def test_a_store_without_spellings_serves_several() -> None:
    store = {"url": "redis://a:1", "share_spellings": False}
    tree = {"replicas": ["http://a:1"], "store": store, "server": {"workers": 2}}
    assert Settings.model_validate(tree).server.workers == 2
