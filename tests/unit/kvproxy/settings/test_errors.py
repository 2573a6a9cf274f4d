import pytest
from pydantic import ValidationError

from kvproxy.settings.errors import Problem, SettingsError, problems_of, unknown_key
from kvproxy.settings.model import Settings
from kvproxy.settings.tree import Path

REPLICAS = {"replicas": ["http://a:1"]}


def lines_for(values: dict[str, object], origins: dict[Path, str] | None = None) -> list[str]:
    with pytest.raises(ValidationError) as raised:
        Settings.model_validate(values)
    return [str(problem) for problem in problems_of(raised.value, Settings, origins or {})]


@pytest.mark.parametrize(
    ("values", "line"),
    [
        ({"server": {"port": 70000}}, "server.port: must be at most 65535, got 70000"),
        ({"server": {"port": "many"}}, "server.port: 'many' is not a count; accepted: 128000, 1"),
        ({"server": {"host": False}}, "server.host: expected text, got False"),
        ({"server": {"host": ""}}, "server.host: must not be empty, got ''"),
        ({"server": 3}, "server: expected a group of keys, got 3"),
        ({"upstream": {"keepalive_s": -1}}, "upstream.keepalive_s: must be at least 0, got -1"),
        ({"log": {"access": 1}}, "log.access: expected true or false, got 1"),
        ({"log": {"level": "loud"}}, "log.level: expected 'debug', 'info', 'warning' or 'error'"),
        ({"replicas": "http://a"}, "replicas: expected a list, got 'http://a'"),
        ({"replicas": []}, "replicas: at least one is needed: --replica URL"),
        ({"replicas": [{"weight": 2}]}, "replicas.0.url: required, and not given"),
        ({"replicas": ["http://a/v1"]}, "replicas.0.url: 'http://a/v1': a path or query"),
        ({"replicas": ["http://a", "http://a"]}, "replicas.1.url: 'http://a:80' is also that of"),
        ({"server": {"prot": 1}}, "server.prot: unknown key; did you mean server.port?"),
    ],
)
def test_one_plain_line_for_each_mistake(values: dict[str, object], line: str) -> None:
    lines = lines_for(REPLICAS | values)
    assert len(lines) == 1
    assert lines[0].startswith(line)


def test_secrets_are_not_repeated() -> None:
    lines = lines_for(REPLICAS | {"upstream": {"api_key": 123456789}})
    assert lines == ["upstream.api_key: expected text"]


def test_nor_are_passwords_in_addresses_and_keys_in_place_of_their_digests() -> None:
    [line] = lines_for(REPLICAS | {"store": {"url": "redis://user:hunter2@valkey:6379"}})
    assert "'redis://…@valkey:6379'" in line
    assert "hunter2" not in line
    [line] = lines_for(REPLICAS | {"access": {"keys": [{"name": "a", "sha256": "kvp-hunter2"}]}})
    assert line.startswith("access.keys.0.sha256: does not match")
    assert "hunter2" not in line


def test_a_pattern_is_not_all_that_is_said() -> None:
    [line] = lines_for(REPLICAS | {"store": {"url": "valkey:6379"}})
    assert "got 'valkey:6379' (Where the server listens: redis://host:port, rediss://" in line
    [line] = lines_for(REPLICAS | {"epp": {"objectives": ["chat"]}})
    assert "as `name=priority`" in line


def test_nothing_given_at_all() -> None:
    assert lines_for({})[0].startswith("replicas: at least one is needed")


def test_origin_is_that_of_the_nearest_group() -> None:
    origins: dict[Path, str] = {("replicas",): "f:1", ("replicas", 0): "f:2"}
    assert lines_for({"replicas": [{"weight": 2}]}, origins) == [
        "f:2: replicas.0.url: required, and not given"
    ]


@pytest.mark.parametrize(
    ("path", "suggestion"),
    [
        (("sever",), "did you mean server?"),
        (("server", "max_body_byte"), "did you mean server.max_body_bytes?"),
        (("hbm_tokens",), "did you mean replicas[].hbm_tokens?"),
        (("log", "grace_s"), "did you mean server.grace_s?"),
        (("replicas", 0, "apikey"), "did you mean replicas.0.api_key?"),
        (("blocks", "zzzzz"), "known here: block_bytes, heads_max_bytes, responses_max_bytes"),
    ],
)
def test_unknown_keys_get_the_nearest_known_one(path: Path, suggestion: str) -> None:
    assert unknown_key(Settings, path) == f"unknown key; {suggestion}"


def test_error_holds_every_problem() -> None:
    error = SettingsError([Problem("f:1", "a", "bad"), Problem("", "", "worse")])
    assert str(error) == "f:1: a: bad\nworse"
