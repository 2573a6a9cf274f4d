import pytest

from kvproxy.settings.model import Settings
from kvproxy.settings.tree import Path, dotted, fields_at, is_secret, known_keys, leaves


def test_leaves_tell_their_kind() -> None:
    by_name = {dotted(leaf.path): leaf for leaf in leaves(Settings)}
    assert by_name["replicas"].is_list
    assert by_name["identify.session_headers"].is_list
    assert not by_name["server.port"].is_list
    assert by_name["log.access"].is_switch
    assert not by_name["server.port"].is_switch
    assert by_name["log.level"].choices == ("debug", "info", "warning", "error")
    assert by_name["server.host"].choices == ()
    assert [name for name, leaf in by_name.items() if leaf.is_secret] == [
        "upstream.api_key",
        "store.password",
        "tracing.headers",
    ]


def test_known_keys_hold_groups_and_items() -> None:
    names = {dotted(path) for path in known_keys(Settings)}
    assert {"server", "server.port", "replicas", "replicas[].url"} <= names


@pytest.mark.parametrize(
    ("path", "key"),
    [
        ((), "server"),
        (("server",), "port"),
        (("replicas", 3), "url"),
        (("replicas",), "url"),
    ],
)
def test_fields_at(path: Path, key: str) -> None:
    assert key in fields_at(Settings, path)


@pytest.mark.parametrize("path", [("server", "port"), ("nonsense",), ("nonsense", 0, "x")])
def test_no_fields_below_values_and_unknown_keys(path: Path) -> None:
    assert fields_at(Settings, path) == {}


@pytest.mark.parametrize(
    ("path", "secret"),
    [
        (("upstream", "api_key"), True),
        (("replicas", 0, "api_key"), True),
        (("replicas", 0, "url"), False),
        (("nonsense", "api_key"), False),
        ((), False),
    ],
)
def test_is_secret(path: Path, secret: bool) -> None:
    assert is_secret(Settings, path) is secret
