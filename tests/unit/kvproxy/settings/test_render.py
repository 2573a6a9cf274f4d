from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from kvproxy.core.units import parse_count
from kvproxy.settings.load import load
from kvproxy.settings.render import MASK, effective_yaml, yaml_value


def test_effective_settings_load_again(tmp_path: Path) -> None:
    env = {
        "KVPROXY_REPLICAS": '[{"url": "http://a:1", "weight": 0.5}, "http://[::1]:2"]',
        "KVPROXY_SERVER__HOST": "on",
        "KVPROXY_IDENTIFY__SESSION_HEADERS": '["x-a", "x-b"]',
    }
    loaded = load(None, env)
    file = tmp_path / "k.yaml"
    file.write_text(effective_yaml(loaded))
    assert load(file).settings == loaded.settings


def test_origins_stand_beside_what_is_no_default() -> None:
    text = effective_yaml(
        load(None, {"KVPROXY_REPLICAS": '["http://a:1"]'}, {("server", "port"): ("--port", "9")})
    )
    commented = [line.strip() for line in text.splitlines() if "#" in line]
    assert commented == ["port: 9  # --port", "replicas:  # KVPROXY_REPLICAS"]


def test_secrets_are_masked() -> None:
    env = {
        "KVPROXY_REPLICAS": '[{"url": "http://a:1", "api_key": "hunter2"}]',
        "KVPROXY_UPSTREAM__API_KEY": "hunter3",
    }
    text = effective_yaml(load(None, env))
    assert "hunter" not in text
    assert text.count(MASK) == 2


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (True, "true"),
        (None, "null"),
        (65_536, "64Ki"),
        (0.02, "0.02"),
        (5.0, "5"),
        (("a", "b"), "[a, b]"),
        ("first_seen", "first_seen"),
        ("no", '"no"'),
        ("", '""'),
        ("127.0.0.1", '"127.0.0.1"'),
        (SecretStr("hunter2"), f'"{MASK}"'),
    ],
)
def test_values(value: Any, text: str) -> None:
    assert yaml_value(value) == text


@given(st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), max_size=20))
def test_any_text_reads_back_as_that_text(text: str) -> None:
    assert yaml.safe_load(yaml_value(text)) == text


@given(st.integers(0, 2**50))
def test_any_count_reads_back(count: int) -> None:
    assert parse_count(str(yaml.safe_load(yaml_value(count)))) == count
