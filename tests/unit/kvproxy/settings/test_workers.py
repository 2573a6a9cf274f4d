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


def test_requests_in_two_legs_need_one_process() -> None:
    tree = {"replicas": ["http://a:1"], "disagg": {"connector": "nixl"}}
    assert Settings.model_validate(tree).server.workers == 1
    with pytest.raises(ValidationError, match=r"must be 1 where disagg\.connector is set"):
        Settings.model_validate({**tree, "server": {"workers": 2}})


def test_a_decision_log_needs_one_process() -> None:
    tree = {"replicas": ["http://a:1"], "decisions": {"path": "decisions.jsonl"}}
    assert Settings.model_validate(tree).server.workers == 1
    with pytest.raises(ValidationError, match=r"must be 1 where decisions\.path is set"):
        Settings.model_validate({**tree, "server": {"workers": 2}})
