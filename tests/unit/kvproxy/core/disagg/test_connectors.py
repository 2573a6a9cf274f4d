"""Exact members of both legs, connector by connector, against what the engines document."""

import pytest

from kvproxy.core.disagg.connectors import (
    PARAMS,
    RULES,
    Connector,
    Peer,
    Transfer,
    TransferError,
    pull_fields,
)

ID = "0123456789abcdef0123456789abcdef"
TRANSFER = Transfer(ID, Peer("10.0.0.1", 8998, "engine-1"), Peer("10.0.0.2", 7300, "", 7400))


def legs(connector: Connector, said: dict[str, object]) -> tuple[object, object]:
    rules = RULES[connector]
    return rules.prefill(TRANSFER), rules.decode(TRANSFER, said)


def test_every_connector_has_rules() -> None:
    assert set(RULES) == set(Connector)


def test_nixl_repeats_what_the_prefill_engine_said() -> None:
    said = {"do_remote_prefill": True, "remote_block_ids": [[4, 5]], "transfer_mode": "pull"}
    first, second = legs(Connector.NIXL, {PARAMS: said, "id": "x"})
    assert first == {
        PARAMS: {
            "do_remote_decode": True,
            "do_remote_prefill": False,
            "remote_engine_id": None,
            "remote_block_ids": None,
            "remote_host": None,
            "remote_port": None,
        }
    }
    assert second == {PARAMS: said}


def test_nixl_hands_the_tokens_of_the_prompt_on() -> None:
    said = {PARAMS: {"do_remote_prefill": True}, "prompt_token_ids": [1, 2]}
    _, second = legs(Connector.NIXL, said)
    assert second == {PARAMS: {"do_remote_prefill": True, "prompt_token_ids": [1, 2]}}


def test_completions_tell_the_tokens_in_their_choice() -> None:
    said = {PARAMS: {"do_remote_prefill": True}, "choices": [{"prompt_token_ids": [3]}]}
    _, second = legs(Connector.NIXL, said)
    assert second == {PARAMS: {"do_remote_prefill": True, "prompt_token_ids": [3]}}


@pytest.mark.parametrize("said", [{}, {PARAMS: None}, {PARAMS: {"do_remote_prefill": False}}])
def test_nixl_without_an_answer(said: dict[str, object]) -> None:
    with pytest.raises(TransferError, match="do_remote_prefill"):
        legs(Connector.NIXL, said)


def test_mooncake() -> None:
    first, second = legs(Connector.MOONCAKE, {})
    name = f"xfer-{ID}"
    flags = {"do_remote_decode": True, "do_remote_prefill": False}
    assert first == {PARAMS: flags | {"transfer_id": name}}
    assert second == {
        PARAMS: {
            "do_remote_prefill": True,
            "do_remote_decode": False,
            "transfer_id": name,
            "remote_bootstrap_addr": "http://10.0.0.1:8998",
            "remote_engine_id": "engine-1",
        }
    }
    assert RULES[Connector.MOONCAKE].concurrent


def test_mooncake_needs_the_engines_name() -> None:
    nameless = TRANSFER._replace(prefill=Peer("10.0.0.1", 8998))
    with pytest.raises(TransferError, match="bootstrap"):
        RULES[Connector.MOONCAKE].decode(nameless, {})


def test_lmcache_pushes_and_the_decoder_is_asked_plainly() -> None:
    first, second = legs(Connector.LMCACHE, {PARAMS: {"first_tok": 7}})
    spec = {
        "req_id": ID,
        "receiver_host": "10.0.0.2",
        "receiver_init_port": 7300,
        "receiver_alloc_port": 7400,
    }
    assert first == {PARAMS: {"ret_first_tok": True, "disagg_spec": spec}}
    assert second == {}
    with pytest.raises(TransferError, match="first_tok"):
        legs(Connector.LMCACHE, {})


def test_sglang_has_the_same_members_on_both_legs() -> None:
    first, second = legs(Connector.SGLANG, {})
    assert first == second
    assert first == {
        "bootstrap_host": "10.0.0.1",
        "bootstrap_port": 8998,
        "bootstrap_room": 0x0123456789ABCDEF >> 1,
    }
    assert RULES[Connector.SGLANG].concurrent


def test_a_room_is_a_positive_integer_of_63_bits() -> None:
    assert 0 <= Transfer("f" * 32, TRANSFER.prefill, TRANSFER.decode).room < 2**63


def test_p2p_nccl_speaks_by_the_request_id() -> None:
    assert legs(Connector.P2P_NCCL, {}) == ({}, {})
    name = RULES[Connector.P2P_NCCL].request_id
    assert name is not None
    expected = f"___prefill_addr_10.0.0.1:8998___decode_addr_10.0.0.2:7300_{ID}"
    assert name(TRANSFER) == expected


def test_offloading() -> None:
    source = {"kv_request_id": ID, "remote_host": "10.0.0.1", "remote_port": 8998}
    assert legs(Connector.OFFLOADING, {}) == (
        {PARAMS: {"remote_decoder": {"kv_request_id": ID}}},
        {PARAMS: {"remote_prefiller": source}},
    )
    assert pull_fields(TRANSFER) == {PARAMS: {"remote_kv_source": source}}
