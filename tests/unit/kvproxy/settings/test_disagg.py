from typing import get_args

import pytest
from pydantic import ValidationError

from kvproxy.build import build_disagg, build_router
from kvproxy.core.disagg.connectors import Connector, Peer
from kvproxy.core.replica import Role
from kvproxy.settings.disagg import DEFAULT_KV_PORTS, ConnectorName, DisaggSettings
from kvproxy.settings.model import Settings

REPLICAS = [
    {"url": "http://p:8000", "role": "prefill", "kv_host": "10.0.0.1"},
    {"url": "http://d:8000", "role": "decode", "kv_port": 9000},
]


def test_requests_stay_whole_by_default() -> None:
    assert DisaggSettings().connector == ""
    settings = Settings.model_validate({"replicas": ["http://a:1"]})
    assert build_disagg(settings) is None


def test_every_connector_can_be_named_and_has_a_port() -> None:
    assert {name for name in get_args(ConnectorName) if name} == set(Connector)
    assert set(DEFAULT_KV_PORTS) == set(Connector)


def test_roles_and_peers() -> None:
    tree = {"replicas": REPLICAS, "disagg": {"connector": "mooncake", "min_tokens": "4k"}}
    router = build_router(Settings.model_validate(tree))
    assert [replica.role for replica in router.replicas] == [Role.PREFILL, Role.DECODE]
    assert router.disagg is not None
    assert router.disagg.terms.min_tokens == 4000
    assert [replica.peer for replica in router.replicas] == [
        Peer("10.0.0.1", 8998, alloc_port=9098),
        Peer("d", 9000, alloc_port=9100),
    ]


def test_never_is_as_without() -> None:
    tree = {"replicas": REPLICAS, "disagg": {"connector": "nixl", "mode": "never"}}
    assert build_disagg(Settings.model_validate(tree)) is None


@pytest.mark.parametrize(
    "tree",
    [
        {"replicas": [{"url": "http://p:1", "role": "prefill"}]},
        {"replicas": [{"url": "http://p:1", "role": "encode"}]},
        {"replicas": ["http://a:1"], "disagg": {"connector": "flexkv"}},
        {"replicas": ["http://a:1"], "disagg": {"min_tokens": 0}},
    ],
)
def test_refused(tree: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Settings.model_validate(tree)
