import pytest
from pydantic import ValidationError

from kvproxy.settings.decisions import DecisionsSettings


def test_it_is_off_and_bounded() -> None:
    assert not DecisionsSettings().path
    for wrong in ({"sample": 0.0}, {"sample": 1.5}, {"files": 0}, {"max_bytes": 1}):
        with pytest.raises(ValidationError):
            DecisionsSettings.model_validate(wrong)
