"""What the engines accept of a transfer: what the proxy sends, and nothing beside it."""

from typing import Any

import pytest

from kvproxy.core.disagg.connectors import RULES, Connector, Peer, Transfer, pull_fields
from loadgen.emulator.errors import ApiError
from loadgen.emulator.requests import Sampling
from loadgen.emulator.transfer_legs import Leg, Place, leg_of

HERE, THERE = Place("10.0.0.1", 8998, "engine-1"), Place("10.0.0.2", 7300, "engine-2")
TRANSFER = Transfer("ab" * 16, Peer(*HERE, 0), Peer(*THERE, 7400))
ONE = Sampling(model="m", max_tokens=1)


def read(connector: str, fields: Any, here: Place = HERE, sampling: Sampling = ONE) -> Leg | None:
    rules = RULES[Connector(connector)] if connector else None
    name = rules.request_id(TRANSFER) if rules and rules.request_id else "id-1"
    return leg_of(connector, fields, name, sampling, here)


@pytest.mark.parametrize("connector", [name for name in Connector if name != "lmcache"])
def test_both_legs_name_one_transfer(connector: Connector) -> None:
    rules = RULES[connector]
    first = read(connector, rules.prefill(TRANSFER))
    assert first is not None
    assert first.computes
    said = {"kv_transfer_params": first.grant}
    long = Sampling(model="m", max_tokens=100, stream=True)
    second = read(connector, rules.decode(TRANSFER, said), THERE, long)
    assert second == Leg(first.name)


def test_lmcache_pushes() -> None:
    leg = read("lmcache", RULES[Connector.LMCACHE].prefill(TRANSFER))
    assert leg == Leg(TRANSFER.id, computes=True, grant={"first_tok": 0})
    assert read("lmcache", {}) is None


def test_a_pull_names_the_peer() -> None:
    leg = read("offloading", pull_fields(TRANSFER), THERE)
    assert leg == Leg("10.0.0.1:8998", pulls=True)


@pytest.mark.parametrize("connector", ["", *Connector])
def test_a_plain_request_has_no_leg(connector: str) -> None:
    assert leg_of(connector, {}, "id-1", ONE, HERE) is None
    assert leg_of(connector, {"kv_transfer_params": None}, "id-1", ONE, HERE) is None


@pytest.mark.parametrize(
    ("connector", "params"),
    [
        ("", {"do_remote_decode": True}),
        ("nixl", {"do_remote_decode": True}),
        ("nixl", {"do_remote_prefill": True}),
        ("nixl", {"do_remote_decode": True, "do_remote_prefill": False, "more": 1}),
        ("mooncake", {"do_remote_decode": True, "do_remote_prefill": False}),
        ("mooncake", {"do_remote_decode": True, "do_remote_prefill": False, "transfer_id": ""}),
        ("lmcache", {"ret_first_tok": True}),
        ("lmcache", {"ret_first_tok": True, "disagg_spec": {"req_id": "a"}}),
        ("offloading", {"remote_decoder": {}}),
        ("offloading", {"remote_encoder": {"kv_request_id": "a"}}),
        ("offloading", {"remote_decoder": {"kv_request_id": "a"}, "remote_kv_source": {}}),
        ("nixl", "a text"),
    ],
)
def test_what_an_engine_refuses(connector: str, params: object) -> None:
    with pytest.raises(ApiError):
        leg_of(connector, {"kv_transfer_params": params}, "id-1", ONE, HERE)


@pytest.mark.parametrize(
    "fields",
    [
        {"bootstrap_room": 1},
        {"bootstrap_host": "h", "bootstrap_port": 1, "bootstrap_room": 2**63},
        {"bootstrap_host": "h", "bootstrap_port": 1, "bootstrap_room": "1"},
    ],
)
def test_what_sglang_refuses(fields: dict[str, object]) -> None:
    with pytest.raises(ApiError):
        leg_of("sglang", fields, "id-1", ONE, HERE)


@pytest.mark.parametrize("changes", [{"max_tokens": 2}, {"stream": True}, {"max_tokens": None}])
def test_a_prefill_leg_is_short(changes: dict[str, Any]) -> None:
    sampling = Sampling(**({"model": "m", "max_tokens": 1} | changes))
    with pytest.raises(ApiError, match="one token"):
        read("nixl", RULES[Connector.NIXL].prefill(TRANSFER), HERE, sampling)
