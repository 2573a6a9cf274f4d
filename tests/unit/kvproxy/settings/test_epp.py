import pytest
from pydantic import ValidationError

from kvproxy.settings.epp import EppSettings


def test_objectives_are_priorities_by_name() -> None:
    settings = EppSettings.model_validate({"objectives": ["batch=10", "chat=-1", "a.b/c=0"]})
    assert settings.priorities() == {"batch": 10, "chat": -1, "a.b/c": 0}


@pytest.mark.parametrize("pair", ["batch", "=1", "a=b", "a b=1", "a=99999999999"])
def test_pairs_that_are_none_are_refused(pair: str) -> None:
    with pytest.raises(ValidationError):
        EppSettings.model_validate({"objectives": [pair]})
