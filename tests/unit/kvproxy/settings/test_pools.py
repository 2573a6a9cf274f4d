from typing import Any

import pytest
from pydantic import ValidationError

from kvproxy.build import build_router, name_pools
from kvproxy.core.policies import PolicyName
from kvproxy.core.pools import Arm
from kvproxy.settings.model import Settings
from kvproxy.settings.pools import ModelSettings


def settings(models: Any) -> Settings:
    return Settings.model_validate({"replicas": ["http://a:1"], "models": models})


@pytest.mark.parametrize(
    "models",
    [
        {"coder": "org/x", "chat": {"serves": [{"model": "a", "weight": 95}, "b=5"]}},
        [
            {"name": "coder", "serves": ["org/x"]},
            {"name": "chat", "serves": ["a=95", {"model": "b", "weight": 5.0}]},
        ],
    ],
)
def test_a_list_and_a_mapping_say_the_same(models: Any) -> None:
    router = build_router(settings(models))
    assert router.pools.names == {
        "coder": [Arm("org/x", 1.0)],
        "chat": [Arm("a", 95.0), Arm("b", 5.0)],
    }
    assert router.pools.policies == {}


def test_a_policy_is_that_of_the_models() -> None:
    router = build_router(settings({"chat": {"serves": ["a", "b"], "policy": "round_robin"}}))
    policies = [router.policy_of(model) for model in ("a", "b", "chat")]
    assert policies == [PolicyName.ROUND_ROBIN, PolicyName.ROUND_ROBIN, PolicyName.SECONDS]
    name_pools(settings({}), router.pools)
    assert router.policy_of("a") is PolicyName.SECONDS


@pytest.mark.parametrize(
    ("weight", "share"), [(0, 0.0), (0.25, 0.25), (100, 100.0), (1_000_000, 1e6)]
)
def test_weights_survive_their_text(weight: float, share: float) -> None:
    serves = [{"model": "a", "weight": weight}]
    made = ModelSettings.model_validate({"name": "n", "serves": serves})
    assert made.shares() == [("a", share)]
    again = ModelSettings.model_validate(made.model_dump())
    assert again == made


@pytest.mark.parametrize(
    ("models", "said"),
    [
        ([{"name": "a", "serves": "x"}, {"name": "a", "serves": "y"}], "also that of models.0"),
        ({"a": ["x", "x"]}, "listed twice"),
        ({"a": 5}, "models.0.serves"),
        ({"a": True}, "models.0.serves"),
        ({"a": {"serves": "x", "policy": "random"}, "b": "x"}, "another policy in models.0"),
        ({"a": []}, "at least 1"),
        ({"a": "x=y"}, "pattern"),
        ({"a": [{"model": "x", "weight": -1}]}, "not a number from 0"),
        ({"a b": "x"}, "pattern"),
        ({"a": {"serves": "x", "polcy": "random"}}, "Extra inputs"),
        ({"a": None}, "Field required"),
        (7, "valid tuple"),
    ],
)
def test_what_cannot_be_meant_is_refused(models: Any, said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        settings(models)
