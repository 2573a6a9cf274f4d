"""What a request says of a transfer, as each connector wants it said.

Strict: a field that the connector does not know, lacks or contradicts is refused.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from loadgen.emulator import errors
from loadgen.emulator.kv_connectors import CONNECTORS
from loadgen.emulator.requests import Sampling

_NIXL_EMPTY = ("remote_engine_id", "remote_block_ids", "remote_host", "remote_port")
_TOKENS = "prompt_token_ids"


class Leg(NamedTuple):
    """One leg of a transfer named `name`. `computes`: its KV is for another replica, which may be
    told `grant` in the answer; else it loads what that name stands for, or with `pulls` what the
    peer's caches hold."""

    name: str
    computes: bool = False
    pulls: bool = False
    grant: Mapping[str, Any] | None = None


class Place(NamedTuple):
    """How a replica is known to the connectors of the others."""

    host: str
    port: int
    engine_id: str


def leg_of(
    connector: str, fields: Mapping[str, Any], request_id: str, sampling: Sampling, here: Place
) -> Leg | None:
    """None for a request that is whole. Raises ApiError."""
    params = fields.get("kv_transfer_params")
    if params is not None and not isinstance(params, dict):
        raise _wrong("kv_transfer_params must be an object")
    leg = _READERS[connector](params or {}, fields, request_id, here) if connector else None
    if leg is None and params and set(params) != {_TOKENS}:
        raise _wrong(f"kv_transfer_params means nothing without a connector: {sorted(params)}")
    if leg is not None and leg.computes:
        _check_short(sampling)
    return leg


def _check_short(sampling: Sampling) -> None:
    """Only a prefill that ends by its length hands its blocks on."""
    if sampling.stream or sampling.max_tokens != 1 or sampling.min_tokens > 1:
        raise _wrong("a prefill leg is not streamed and generates one token")


def _nixl(params: dict[str, Any], _fields: object, request_id: str, here: Place) -> Leg | None:
    if not params.keys() - {_TOKENS}:
        return None
    if params.get("do_remote_decode"):
        expected = {"do_remote_decode": True, "do_remote_prefill": False}
        _exactly(params, expected | dict.fromkeys(_NIXL_EMPTY))
        name = f"{here.engine_id}/{request_id}"
        grant = {
            "do_remote_prefill": True,
            "do_remote_decode": False,
            "remote_block_ids": [[1]],
            "remote_engine_id": here.engine_id,
            "remote_request_id": request_id,
            "remote_host": here.host,
            "remote_port": here.port,
            "tp_size": 1,
            "dcp_size": 1,
            "pp_size": 1,
            "remote_num_tokens": 0,
            "remote_blocks_expiry_time": None,
            "transfer_mode": "pull",
            "remote_prefill_cached_tokens": 0,
        }
        return Leg(name, computes=True, grant=grant)
    names = {
        *("do_remote_prefill", "do_remote_decode", "remote_request_id", *_NIXL_EMPTY),
        *("tp_size", "dcp_size", "pp_size", "transfer_mode", "remote_num_tokens"),
        *("remote_prefill_cached_tokens", "remote_blocks_expiry_time"),
    }
    _named(params, names)
    if not params["do_remote_prefill"] or not params["remote_block_ids"]:
        raise _wrong("do_remote_prefill and remote_block_ids say where the KV is")
    return Leg(f"{params['remote_engine_id']}/{params['remote_request_id']}")


def _mooncake(params: dict[str, Any], _fields: object, _id: str, here: Place) -> Leg | None:
    if not params:
        return None
    if params.get("do_remote_decode"):
        _named(params, {"do_remote_decode", "do_remote_prefill", "transfer_id"})
        return Leg(_text(params, "transfer_id"), computes=True)
    flags = {"do_remote_decode", "do_remote_prefill"}
    _named(params, {*flags, "transfer_id", "remote_bootstrap_addr", "remote_engine_id"})
    if not params["do_remote_prefill"]:
        raise _wrong("do_remote_prefill or do_remote_decode")
    if not _text(params, "remote_bootstrap_addr").startswith("http://"):
        raise _wrong("remote_bootstrap_addr is a URL")
    _text(params, "remote_engine_id")
    return Leg(_text(params, "transfer_id"))


def _lmcache(params: dict[str, Any], _fields: object, _id: str, here: Place) -> Leg | None:
    if not params:
        return None
    _named(params, {"ret_first_tok", "disagg_spec"})
    spec = params["disagg_spec"]
    if not isinstance(spec, dict):
        raise _wrong("disagg_spec must be an object")
    _named(spec, {"req_id", "receiver_host", "receiver_init_port", "receiver_alloc_port"})
    if not isinstance(spec["receiver_init_port"], int) or not spec["receiver_init_port"]:
        raise _wrong("receiver_init_port is a port")
    return Leg(_text(spec, "req_id"), computes=True, grant={"first_tok": 0})


def _sglang(params: dict[str, Any], fields: Any, _id: str, here: Place) -> Leg | None:
    names = ("bootstrap_host", "bootstrap_port", "bootstrap_room")
    given = [name for name in names if fields.get(name) is not None]
    if not given:
        return None
    if len(given) != len(names):
        raise _wrong(f"of {', '.join(names)} only {', '.join(given)} came")
    room = fields["bootstrap_room"]
    if type(room) is not int or not 0 <= room < 2**63:
        raise _wrong("bootstrap_room is an integer of 63 bits")
    computes = (fields["bootstrap_host"], fields["bootstrap_port"]) == (here.host, here.port)
    return Leg(str(room), computes=computes)


def _p2p_nccl(params: dict[str, Any], fields: Any, request_id: str, here: Place) -> Leg | None:
    opening, middle = "___prefill_addr_", "___decode_addr_"
    if not request_id.startswith(opening) or middle not in request_id:
        return None
    prefill = request_id.removeprefix(opening).split(middle)[0]
    return Leg(request_id, computes=prefill == f"{here.host}:{here.port}")


def _offloading(params: dict[str, Any], _fields: object, _id: str, here: Place) -> Leg | None:
    if not params:
        return None
    if len(params) != 1:
        raise _wrong(f"one of remote_decoder, remote_prefiller, remote_kv_source: {params}")
    ((what, given),) = params.items()
    if not isinstance(given, dict):
        raise _wrong(f"{what} must be an object")
    if what == "remote_decoder":
        _named(given, {"kv_request_id"})
        return Leg(_text(given, "kv_request_id"), computes=True)
    if what not in ("remote_prefiller", "remote_kv_source"):
        raise _wrong(f"{what} is not known")
    _named(given, {"kv_request_id", "remote_host", "remote_port"})
    if what == "remote_kv_source":
        address = f"{_text(given, 'remote_host')}:{given['remote_port']}"
        return Leg(address, pulls=True)
    return Leg(_text(given, "kv_request_id"))


_Reader = Callable[[dict[str, Any], Any, str, Place], Leg | None]
_READERS: dict[str, _Reader] = {
    "nixl": _nixl,
    "mooncake": _mooncake,
    "lmcache": _lmcache,
    "sglang": _sglang,
    "p2p_nccl": _p2p_nccl,
    "offloading": _offloading,
}
assert tuple(_READERS) == CONNECTORS


def _text(fields: Mapping[str, Any], name: str) -> str:
    value = fields[name]
    if not isinstance(value, str) or not value:
        raise _wrong(f"{name} must be a text")
    return value


def _exactly(params: Mapping[str, Any], expected: Mapping[str, Any]) -> None:
    if params != expected:
        raise _wrong(f"expected {dict(expected)}, got {dict(params)}")


def _named(params: Mapping[str, Any], names: set[str]) -> None:
    """Nothing unknown; what may be left out is only said by the engine."""
    unknown, missing = params.keys() - names - {_TOKENS}, names - params.keys() - _OPTIONAL
    if unknown or missing:
        raise _wrong(f"unknown {sorted(unknown)}, missing {sorted(missing)}")


_OPTIONAL = {
    "remote_num_tokens",
    "remote_prefill_cached_tokens",
    "remote_blocks_expiry_time",
}


def _wrong(text: str) -> errors.ApiError:
    return errors.refused(f"kv transfer: {text}.", "kv_transfer_params")
