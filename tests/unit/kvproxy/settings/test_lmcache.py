import pytest
from pydantic import ValidationError

from kvproxy.settings.lmcache import LmcacheSettings


def test_defaults_ask_nobody() -> None:
    settings = LmcacheSettings()
    assert (settings.coordinator_url, settings.controller_url, settings.instances) == ("", "", ())
    assert settings.chunk_tokens == 256


def test_values() -> None:
    tree = {
        "coordinator_url": "http://10.0.0.1:9300/",
        "dram_tokens": "2M",
        "interval_s": "500ms",
        "instances": ["node-1=10.0.0.1:8000", "node-1=10.0.0.1:8001"],
    }
    settings = LmcacheSettings.model_validate(tree)
    assert settings.dram_tokens == 2_000_000
    assert settings.interval_s == 0.5
    assert settings.instances == ("node-1=10.0.0.1:8000", "node-1=10.0.0.1:8001")


@pytest.mark.parametrize(
    "tree",
    [
        {"coordinator_url": "10.0.0.1:9300"},
        {"coordinator_url": "http://10.0.0.1:9300/directory"},
        {"instances": ["node-1"]},
        {"instances": ["=replica"]},
        {"chunk_tokens": 0},
        {"interval_s": 0},
        {"coordinator": "http://10.0.0.1:9300"},
    ],
)
def test_mistakes(tree: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        LmcacheSettings.model_validate(tree)
