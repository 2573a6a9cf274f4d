import pytest

from kvproxy.settings.model import Settings
from kvproxy.settings.source import env_name, flag_names, from_env, from_flags


def test_names() -> None:
    assert env_name(("server", "max_body_bytes")) == "KVPROXY_SERVER__MAX_BODY_BYTES"
    assert flag_names(("server", "max_body_bytes")) == ["--server-max-body-bytes"]
    assert flag_names(("server", "port")) == ["--server-port", "--port"]
    assert flag_names(("replicas",)) == ["--replica"]


def test_environment() -> None:
    env = {
        "KVPROXY_SERVER__PORT": "9000",
        "KVPROXY_REPLICAS": '["http://a:1", {"url": "http://b:1"}]',
        "PATH": "/bin",
    }
    layer = from_env(Settings, env)
    assert layer.problems == []
    assert layer.values == {
        "server": {"port": "9000"},
        "replicas": ["http://a:1", {"url": "http://b:1"}],
    }
    assert layer.origins[("server", "port")] == "KVPROXY_SERVER__PORT"


@pytest.mark.parametrize(
    ("name", "text", "problem"),
    [
        ("KVPROXY_SERVER__PROT", "1", "did you mean server.port?"),
        ("KVPROXY_NONE__X", "1", "unknown key"),
        ("KVPROXY_REPLICA", "http://a", "did you mean KVPROXY_REPLICAS?"),
        ("KVPROXY_REPLICAS", "http://a", "expected a JSON list"),
    ],
)
def test_mistakes_in_the_environment(name: str, text: str, problem: str) -> None:
    problems = from_env(Settings, {name: text}).problems
    assert [p.where for p in problems] == [name]
    assert problem in problems[0].message


def test_variables_of_a_kubernetes_service_are_left_alone() -> None:
    env = {
        "KVPROXY_PORT": "tcp://10.0.0.1:8080",
        "KVPROXY_SERVICE_HOST": "10.0.0.1",
        "KVPROXY_PORT_8080_TCP": "tcp://10.0.0.1:8080",
        "KVPROXY_CONFIG": "kvproxy.yaml",
    }
    layer = from_env(Settings, env)
    assert (layer.values, layer.problems) == ({}, [])


def test_flags() -> None:
    given = {("server", "port"): ("--port", "9000"), ("replicas",): ("--replica", ("http://a",))}
    layer = from_flags(Settings, given)
    assert layer.values == {"server": {"port": "9000"}, "replicas": ["http://a"]}
    assert layer.origins == {("server", "port"): "--port", ("replicas",): "--replica"}
