import pytest
from pydantic import ValidationError

from kvproxy.settings.warm import WarmSettings


def test_it_is_on_and_bounded() -> None:
    assert WarmSettings().prefixes_max
    with pytest.raises(ValidationError):
        WarmSettings(prefixes_max=1001)
    with pytest.raises(ValidationError):
        WarmSettings(slow_start_s=-1.0)
