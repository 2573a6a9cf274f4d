import pytest
from pydantic import ValidationError

from kvproxy.settings.discovery import DiscoverySettings


@pytest.mark.parametrize("url", ["http://engines:8000", "srv+http://_h._tcp.engines", "https://e"])
def test_names_that_are_taken(url: str) -> None:
    assert DiscoverySettings.model_validate({"dns": [url]}).sources


@pytest.mark.parametrize("url", ["engines", "srv+engines", "http://e/path", "tcp://e:1"])
def test_names_that_are_refused(url: str) -> None:
    with pytest.raises(ValidationError):
        DiscoverySettings.model_validate({"dns": [url]})


def test_nothing_is_looked_for_by_default() -> None:
    assert not DiscoverySettings().sources
    assert DiscoverySettings(kubernetes_service="ns/engines").sources
