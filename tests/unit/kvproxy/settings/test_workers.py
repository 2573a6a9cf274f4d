"""Keys about several processes stand in the section `server`."""

import pytest
from pydantic import ValidationError

from kvproxy.settings.model import ServerSettings
from kvproxy.settings.workers import WorkerKeys


def test_one_process_unless_asked() -> None:
    assert WorkerKeys().workers == ServerSettings().workers == 1
    assert ServerSettings(workers=4).workers == 4


@pytest.mark.parametrize("given", [{"workers": 0}, {"workers": 257}, {"hop_silence_s": 0.5}])
def test_bounds(given: dict[str, float]) -> None:
    with pytest.raises(ValidationError):
        ServerSettings.model_validate(given)
