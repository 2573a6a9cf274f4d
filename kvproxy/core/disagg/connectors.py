"""How each connector is told that a prompt is computed here and answered there.

One row a connector: what the prefill leg carries, what the decode leg carries once the prefill leg
has answered (or beside it, where both are sent at once), and whether the request id speaks. Names
and values are those of vLLM 0.33, LMCache 0.5.6 and SGLang; engines check them strictly.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

Fields = Mapping[str, object]

PARAMS = "kv_transfer_params"
_ROOM_BITS = 63


class Connector(StrEnum):
    NIXL = "nixl"
    MOONCAKE = "mooncake"
    LMCACHE = "lmcache"
    SGLANG = "sglang"
    P2P_NCCL = "p2p_nccl"
    OFFLOADING = "offloading"


class Peer(NamedTuple):
    """Where a replica's connector listens. `engine_id` is asked from the replica (Mooncake's
    bootstrap server); `alloc_port` is LMCache's second port of a receiver."""

    host: str
    port: int
    engine_id: str = ""
    alloc_port: int = 0


class Transfer(NamedTuple):
    """One prompt's KV on its way. `id` is 32 hex digits, new for every attempt."""

    id: str
    prefill: Peer
    decode: Peer

    @property
    def room(self) -> int:
        """The id as SGLang wants it: a positive integer of 63 bits."""
        return int(self.id[:16], 16) >> (64 - _ROOM_BITS)


class TransferError(Exception):
    """The prefill leg's answer does not say where its KV is; `str` says what is missing."""


@dataclass(frozen=True, slots=True)
class Rules:
    """`prefill` and `decode` give members of the legs' bodies; `decode` is told the members of the
    prefill leg's answer, none where both legs are sent at once (`concurrent`)."""

    prefill: Callable[[Transfer], Fields]
    decode: Callable[[Transfer, Fields], Fields]
    concurrent: bool = False
    request_id: Callable[[Transfer], str] | None = None


def pull_fields(transfer: Transfer) -> Fields:
    """OffloadingConnector's symmetric pull, no disaggregation: the request goes to `decode`, which
    takes what it can from the host tier of `prefill`."""
    peer = transfer.prefill
    source = {"kv_request_id": transfer.id, "remote_host": peer.host, "remote_port": peer.port}
    return {PARAMS: {"remote_kv_source": source}}


def _nixl_prefill(transfer: Transfer) -> Fields:
    nobody = ("remote_engine_id", "remote_block_ids", "remote_host", "remote_port")
    flags = {"do_remote_decode": True, "do_remote_prefill": False}
    return {PARAMS: flags | dict.fromkeys(nobody)}


def _nixl_decode(transfer: Transfer, answer: Fields) -> Fields:
    """What the prefill engine said, word for word, and the prompt's tokens if it said those."""
    params = answer.get(PARAMS)
    if not isinstance(params, dict) or not params.get("do_remote_prefill"):
        raise TransferError("its answer has no kv_transfer_params with do_remote_prefill")
    tokens = _prompt_tokens(answer)
    return {PARAMS: params | {"prompt_token_ids": tokens} if tokens else params}


def _prompt_tokens(answer: Fields) -> object:
    """Of the whole answer, or as /v1/completions has it of its only choice."""
    choices = answer.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices else None
    in_choice = choice.get("prompt_token_ids") if isinstance(choice, dict) else None
    return answer.get("prompt_token_ids") or in_choice


def _mooncake_prefill(transfer: Transfer) -> Fields:
    flags = {"do_remote_decode": True, "do_remote_prefill": False}
    return {PARAMS: flags | {"transfer_id": _transfer_id(transfer)}}


def _mooncake_decode(transfer: Transfer, _answer: Fields) -> Fields:
    peer = transfer.prefill
    if not peer.engine_id:
        raise TransferError("its bootstrap server did not say what its engine is called")
    return {
        PARAMS: {
            "do_remote_prefill": True,
            "do_remote_decode": False,
            "transfer_id": _transfer_id(transfer),
            "remote_bootstrap_addr": f"http://{peer.host}:{peer.port}",
            "remote_engine_id": peer.engine_id,
        }
    }


def _transfer_id(transfer: Transfer) -> str:
    return f"xfer-{transfer.id}"


def _lmcache_prefill(transfer: Transfer) -> Fields:
    receiver = transfer.decode
    spec = {
        "req_id": transfer.id,
        "receiver_host": receiver.host,
        "receiver_init_port": receiver.port,
        "receiver_alloc_port": receiver.alloc_port,
    }
    return {PARAMS: {"ret_first_tok": True, "disagg_spec": spec}}


def _lmcache_decode(transfer: Transfer, answer: Fields) -> Fields:
    """Nothing: the KV was pushed, and the decoder computes the last token of the prompt itself, so
    that the answer is its own from the first token on."""
    params = answer.get(PARAMS)
    if not isinstance(params, dict) or "first_tok" not in params:
        raise TransferError("its answer has no kv_transfer_params.first_tok")
    return {}


def _sglang(transfer: Transfer, _answer: Fields | None = None) -> Fields:
    peer = transfer.prefill
    return {
        "bootstrap_host": peer.host,
        "bootstrap_port": peer.port,
        "bootstrap_room": transfer.room,
    }


def _nothing(_transfer: Transfer, _answer: Fields | None = None) -> Fields:
    return {}


def _p2p_nccl_id(transfer: Transfer) -> str:
    here, there = transfer.prefill, transfer.decode
    addresses = f"___prefill_addr_{here.host}:{here.port}___decode_addr_{there.host}:{there.port}"
    return f"{addresses}_{transfer.id}"


def _offloading_prefill(transfer: Transfer) -> Fields:
    return {PARAMS: {"remote_decoder": {"kv_request_id": transfer.id}}}


def _offloading_decode(transfer: Transfer, _answer: Fields) -> Fields:
    peer = transfer.prefill
    source = {"kv_request_id": transfer.id, "remote_host": peer.host, "remote_port": peer.port}
    return {PARAMS: {"remote_prefiller": source}}


RULES: dict[Connector, Rules] = {
    Connector.NIXL: Rules(_nixl_prefill, _nixl_decode),
    Connector.MOONCAKE: Rules(_mooncake_prefill, _mooncake_decode, concurrent=True),
    Connector.LMCACHE: Rules(_lmcache_prefill, _lmcache_decode),
    Connector.SGLANG: Rules(_sglang, _sglang, concurrent=True),
    Connector.P2P_NCCL: Rules(_nothing, _nothing, request_id=_p2p_nccl_id),
    Connector.OFFLOADING: Rules(_offloading_prefill, _offloading_decode),
}
