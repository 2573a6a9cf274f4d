"""What settings become."""

import math
from pathlib import Path
from typing import Any

import pytest

from kvproxy.build import (
    build_access,
    build_admission,
    build_decision_log,
    build_reader,
    build_router,
)
from kvproxy.core.access import Realm
from kvproxy.core.dialects.chat import Chat
from kvproxy.core.life_cycle import Health
from kvproxy.core.policies import PolicyName
from kvproxy.ops.metrics import Metrics
from kvproxy.settings.model import Settings


def settings(**sections: Any) -> Settings:
    replicas = sections.pop("replicas", ["http://a:1", "http://b:2"])
    return Settings.model_validate({"replicas": replicas, **sections})


@pytest.mark.parametrize("policy", list(PolicyName))
def test_only_our_own_policy_holds_work_back(policy: PolicyName) -> None:
    made = settings(policy={"name": policy.value}, admission={"backlog_s": 2.0})
    router = build_router(made)
    assert router.policy is policy
    expected = 2.0 if policy is PolicyName.SECONDS else math.inf
    assert build_admission(made, router)._limits.backlog_s == expected


def test_sizes_of_replicas() -> None:
    made = settings(
        replicas=[{"url": "http://a:1", "hbm_tokens": 5000}, "http://b:2"],
        index={"hbm_tokens_default": 7000},
    )
    router = build_router(made)
    assert [replica.hbm_tokens for replica in router.replicas] == [5000, 7000]
    assert all(replica.health is Health.STARTING for replica in router.replicas)


def test_dram_is_modelled_once_for_replicas_of_one_server() -> None:
    replicas = ["http://a:1", "http://b:2", "http://c:3"]
    lmcache = {
        "dram_tokens": 5000,
        "instances": ["node=a:1", "node=b:2"],
        "save_decode": True,
    }
    first, second, third = build_router(settings(replicas=replicas, lmcache=lmcache)).replicas
    assert first.dram is not None
    assert first.dram.capacity == 5000
    assert first.saves_answers
    assert first.dram is second.dram
    assert third.dram not in (None, first.dram)
    assert build_router(settings(replicas=replicas)).replicas[0].dram is None


@pytest.mark.parametrize(
    ("canonical", "splices"),
    [({}, 1), ({"enabled": False}, 0), ({"order": "preserve"}, 0), ({"order": "sorted"}, 1)],
)
def test_the_canonical_form_can_be_chosen(canonical: dict[str, Any], splices: int) -> None:
    reader = build_reader(settings(canonical=canonical))
    for tools in (b'{"a":1,"b":2}', b'{"b":2,"a":1}'):
        turn = reader.read(Chat(), "", b'{"model":"m","tools":[%s],"messages":[]}' % tools)
    assert len(turn.splices) == splices


def test_a_key_without_a_tenant_is_its_own() -> None:
    digest = "2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b"  # of "secret"
    access = build_access(settings(access={"keys": [{"name": "alice", "sha256": digest}]}))
    assert access.enter({"x-api-key": "secret"}, Realm.USE, 0.0).tenant == "alice"


def test_decisions_are_written_where_asked(tmp_path: Path) -> None:
    router_settings = settings()
    router = build_router(router_settings)
    metrics = Metrics(router, build_admission(router_settings, router), lambda: 0.0)
    assert build_decision_log(router_settings, metrics) is None
    log = build_decision_log(settings(decisions={"path": str(tmp_path / "d")}), metrics)
    assert log is not None
    log.close()
    assert b'kvproxy_decisions_logged_total{outcome="dropped"} 0.0' in metrics.page()
