from pathlib import Path

import pytest

from kvproxy.settings.model import Settings
from kvproxy.settings.source import Layer
from kvproxy.settings.yaml_file import FILE_MAX_BYTES, from_yaml


def read(tmp_path: Path, text: str, env: dict[str, str] | None = None) -> Layer:
    file = tmp_path / "k.yaml"
    file.write_text(text, encoding="utf-8")
    return from_yaml(Settings, file, env or {})


def problems(layer: Layer, tmp_path: Path) -> list[str]:
    return [str(problem).removeprefix(f"{tmp_path}/") for problem in layer.problems]


def test_values_and_their_lines(tmp_path: Path) -> None:
    server = "server:\n  port: 1\n  host: no\n"
    text = f"{server}replicas:\n  - http://a\n  - url: http://b\n    weight: 2\n"
    layer = read(tmp_path, text)
    assert layer.problems == []
    assert layer.values == {
        "server": {"port": 1, "host": False},
        "replicas": ["http://a", {"url": "http://b", "weight": 2}],
    }
    lines = {path: origin.rpartition(":")[2] for path, origin in layer.origins.items()}
    assert lines[("server", "host")] == "3"
    assert lines[("replicas", 0)] == "5"
    assert lines[("replicas", 1, "weight")] == "7"


@pytest.mark.parametrize("text", ["", "# nothing\n", "---\n", "{}"])
def test_empty_files_are_fine(tmp_path: Path, text: str) -> None:
    layer = read(tmp_path, text)
    assert (layer.values, layer.problems) == ({}, [])


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a: [1\nb: 2", "k.yaml:2: not usable YAML: did not find expected"),
        ("a: 1\na: 2\n", "k.yaml:2: a: given twice, first in line 1"),
        ("- a", "k.yaml:1: expected keys and values at the top"),
        ("a: 1\n---\nb: 2\n", "k.yaml:2: not usable YAML: but found another document"),
        ("a: !!python/name:os.system x", "k.yaml:1: not usable YAML: could not determine"),
        ("a: &a [*a]", "k.yaml:1: not usable YAML: too deep or too large"),
        ("a: " + "[" * 20 + "]" * 20, "k.yaml:1: not usable YAML: too deep"),
        ("a: *b", "k.yaml:1: not usable YAML: found undefined alias"),
        ("a: 2001-99-99", "k.yaml:1: not usable YAML: "),
    ],
)
def test_unusable_files_say_where_and_why(tmp_path: Path, text: str, problem: str) -> None:
    layer = read(tmp_path, text)
    assert len(layer.problems) == 1
    assert problems(layer, tmp_path)[0].startswith(problem)


def test_aliases_cannot_blow_a_file_up(tmp_path: Path) -> None:
    bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
        f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 9)
    )
    assert "too deep or too large" in problems(read(tmp_path, bomb), tmp_path)[0]


def test_unreadable_files(tmp_path: Path) -> None:
    absent = from_yaml(Settings, tmp_path / "none.yaml", {})
    assert absent.unreadable
    assert problems(absent, tmp_path) == ["none.yaml: cannot be read: No such file or directory"]
    (tmp_path / "k.yaml").write_bytes(b"a: \xff\xfe")
    assert from_yaml(Settings, tmp_path / "k.yaml", {}).unreadable
    assert "larger than" in problems(read(tmp_path, "#" * (FILE_MAX_BYTES + 1)), tmp_path)[0]
    assert from_yaml(Settings, tmp_path, {}).unreadable


def test_variables_are_filled_in(tmp_path: Path) -> None:
    text = "server: {host: '${HOST}', port: '${PORT}'}\nlog: {level: '$$${A}${B}'}"
    env = {"HOST": "h", "PORT": "90", "A": "${B}", "B": ""}
    layer = read(tmp_path, text, env)
    assert layer.problems == []
    assert layer.values == {"server": {"host": "h", "port": "90"}, "log": {"level": "$${B}"}}


def test_missing_variable_is_a_problem(tmp_path: Path) -> None:
    layer = read(tmp_path, "server:\n  host: ${NONE}\n")
    assert problems(layer, tmp_path) == [
        "k.yaml:2: server.host: environment variable 'NONE' is not set"
    ]


def test_secret_files(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("hunter2\n")
    text = "upstream: {api_key: {file: key}}\nreplicas: [{url: http://a, api_key: {file: none}}]"
    layer = read(tmp_path, text)
    assert layer.values["upstream"] == {"api_key": "hunter2"}
    assert problems(layer, tmp_path) == [
        "k.yaml:2: replicas.0.api_key: secret file 'none' cannot be read: No such file or directory"
    ]


def test_only_secrets_come_from_files(tmp_path: Path) -> None:
    layer = read(tmp_path, "server: {host: {file: key}}")
    assert layer.values == {"server": {"host": {"file": "key"}}}
