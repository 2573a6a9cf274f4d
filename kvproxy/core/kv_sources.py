"""Where a replica publishes its KV events, as its own pages say it."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec


class KvSource(NamedTuple):
    """One stream: ZMQ addresses to connect to (to bind to, where they have a `*`), `replay` empty
    if there is none, and the prefix of topics to listen to."""

    replica: str
    rank: int
    endpoint: str
    replay: str
    topic: str


# The replica, and the data-parallel rank of it.
SourceKey = tuple[str, int]


class SourceError(ValueError):
    """The page tells of events that we cannot listen to; the message says what to set."""


def read_vllm(replica: str, host: str, page: bytes) -> list[KvSource]:
    """From `GET /kv_event_sources`: an object by data-parallel rank. Raises SourceError."""
    sources = []
    for rank, config in sorted(_object(page).items()):
        if not isinstance(config, dict) or not config.get("enable_kv_cache_events"):
            continue
        if config.get("publisher") != "zmq" or not rank.isdecimal():
            raise SourceError(f"rank {rank} has publisher {config.get('publisher')!r}; set zmq")
        endpoint = str(config.get("endpoint") or "")
        if not _binds(endpoint):
            raise SourceError(
                f"it connects to {endpoint} instead of listening there; write the endpoint in its "
                "--kv-events-config as tcp://*:PORT, or set replicas[].events_endpoint here to "
                "tcp://*:PORT so that kvproxy listens"
            )
        replay = str(config.get("replay_endpoint") or "")
        topic = str(config.get("topic") or "")
        sources.append(KvSource(replica, int(rank), _at(host, endpoint), _at(host, replay), topic))
    return sources


def read_sglang(replica: str, host: str, page: bytes) -> list[KvSource]:
    """From `GET /server_info`: one port a rank. Raises SourceError."""
    config = _object(page).get("kv_events")
    if not isinstance(config, dict) or config.get("publisher") != "zmq":
        return []
    try:
        base, ranks = int(config["endpoint_port_base"]), int(config.get("dp_size") or 1)
        replay = config.get("replay_endpoint_port_base")
        replay_base = None if replay is None else int(replay)
    except (KeyError, TypeError, ValueError) as error:
        raise SourceError(f"kv_events of /server_info has no port: {error}") from error
    if not 1 <= ranks <= 1024:
        raise SourceError(f"kv_events of /server_info has {ranks} ranks")
    named = str(config.get("endpoint_host") or "*")
    address = host if named in ("*", "0.0.0.0", "::") else named
    return [
        KvSource(
            replica,
            rank,
            f"tcp://{address}:{base + rank}",
            "" if replay_base is None else f"tcp://{address}:{replay_base + rank}",
            str(config.get("topic") or ""),
        )
        for rank in range(ranks)
    ]


def of_ranks(source: KvSource, ranks: int) -> list[KvSource]:
    """A stream a data-parallel rank, each a port further: so vLLM's publishers count them."""
    return [
        source._replace(
            rank=rank, endpoint=_port(source.endpoint, rank), replay=_port(source.replay, rank)
        )
        for rank in range(ranks)
    ]


def _port(address: str, more: int) -> str:
    host, colon, port = address.rpartition(":")
    return f"{host}{colon}{int(port) + more}" if more and port.isdigit() else address


def _object(page: bytes) -> Mapping[str, Any]:
    try:
        return msgspec.json.decode(page, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise SourceError(f"not an object: {error}") from error


def _binds(endpoint: str) -> bool:
    """vLLM's own rule for whether the engine listens there."""
    return "*" in endpoint or "::" in endpoint or endpoint.startswith(("ipc://", "inproc://"))


def _at(host: str, endpoint: str) -> str:
    """The address as seen from here."""
    for anywhere in ("*", "[::]", "0.0.0.0"):
        endpoint = endpoint.replace(anywhere, host)
    return endpoint
