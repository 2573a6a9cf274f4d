from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvproxy.settings.errors import SettingsError
from kvproxy.settings.load import load

PORT = ("server", "port")
FILE = "server:\n  port: 1001\n  host: file\n  grace_s: 5m\nreplicas:\n  - http://file:1\n"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "k.yaml"
    path.write_text(FILE)
    return path


def test_later_sources_win_key_by_key(file: Path) -> None:
    env = {"KVPROXY_SERVER__PORT": "1002", "KVPROXY_SERVER__HOST": "env"}
    server = load(file, env, {PORT: ("--port", "1003")}).settings.server
    assert (server.port, server.host, server.grace_s) == (1003, "env", 300.0)
    assert server.keepalive_timeout_s == 75, "what nobody gave is the default"


@given(st.sets(st.sampled_from(["file", "env", "flag"])))
def test_the_strongest_source_given_wins(given_by: set[str]) -> None:
    ports = {"file": 1001, "env": 1002, "flag": 1003}
    env = {"KVPROXY_REPLICAS": '["http://a:1"]'}
    if "env" in given_by:
        env["KVPROXY_SERVER__PORT"] = "1002"
    path = Path(__file__).parent / "data" / "port.yaml" if "file" in given_by else None
    flags = {PORT: ("--port", "1003")} if "flag" in given_by else {}
    expected = max((ports[name] for name in given_by), default=8080)
    assert load(path, env, flags).settings.server.port == expected


def test_a_list_is_replaced_whole(file: Path) -> None:
    loaded = load(file, {"KVPROXY_REPLICAS": '["http://a:1", "http://b:1"]'})
    assert [replica.id for replica in loaded.settings.replicas] == ["a:1", "b:1"]
    assert loaded.origins[("replicas",)] == "KVPROXY_REPLICAS"
    assert ("replicas", 0) not in loaded.origins


def test_origins_name_the_winner(file: Path) -> None:
    origins = load(file, {"KVPROXY_SERVER__HOST": "env"}, {PORT: ("--port", "1")}).origins
    assert origins[PORT] == "--port"
    assert origins[("server", "host")] == "KVPROXY_SERVER__HOST"
    assert origins[("server", "grace_s")] == f"{file}:4"
    assert ("server", "max_body_bytes") not in origins


def test_an_empty_group_means_its_defaults(tmp_path: Path) -> None:
    (tmp_path / "k.yaml").write_text("server:\n  # port: 1\nreplicas: [http://a]\n")
    assert load(tmp_path / "k.yaml").settings.server.port == 8080
    merged = load(tmp_path / "k.yaml", {"KVPROXY_SERVER__PORT": "2"})
    assert merged.settings.server.port == 2


def test_all_mistakes_of_all_sources_at_once(file: Path) -> None:
    file.write_text("server:\n  prot: 1\n  port: ${NONE}\n  host: 3\n")
    env = {"KVPROXY_LOG__LEVEL": "loud", "KVPROXY_LOG__LEVAL": "info"}
    with pytest.raises(SettingsError) as raised:
        load(file, env, {("server", "grace_s"): ("--server-grace-s", "x")})
    starts = [str(problem).removeprefix(f"{file}:") for problem in raised.value.problems]
    assert sorted(line.partition(": ")[0] for line in starts) == [
        "--server-grace-s",
        "2",
        "3",
        "4",
        "KVPROXY_LOG__LEVAL",
        "KVPROXY_LOG__LEVEL",
        "replicas",
    ]


def test_an_unreadable_file_is_the_only_complaint(tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as raised:
        load(tmp_path / "none.yaml")
    assert len(raised.value.problems) == 1
