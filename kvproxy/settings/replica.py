"""One replica as the operator names it: a URL is enough."""

from collections.abc import Sequence
from typing import Any, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from kvproxy.settings.kinds import Count, Number, Secret

_ENDPOINT = r"^((tcp|ipc)://\S{1,256})?$"
DEFAULT_PORTS = {"http": 80, "https": 443}


class ReplicaSettings(BaseModel):
    """An engine process that answers requests. A plain URL is short for `{url: URL}`."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    url: str = Field(
        description="Where the engine listens, `http://host:port` or https, without a path: "
        "kvproxy adds the path that the client asked for."
    )
    id: str = Field(
        default="",
        pattern=r"^[A-Za-z0-9._:\[\]-]{0,128}$",
        description="Name in metrics, logs and the x-kvproxy-replica header; empty: host:port. "
        "Set it when addresses change but the replica is the same.",
    )
    hbm_tokens: Count | None = Field(
        default=None,
        ge=1,
        description="Tokens that fit the replica's KV cache; unset: read from the engine. "
        "Set it for an engine that does not tell.",
    )
    events_endpoint: str = Field(
        default="",
        pattern=_ENDPOINT,
        description="Where the replica publishes KV events, such as tcp://10.0.0.7:5557; empty: "
        "asked from the replica. With `*` for a host, kvproxy listens there and the replica has "
        "to connect: for engines whose --kv-events-config names an address of kvproxy.",
    )
    events_replay_endpoint: str = Field(
        default="",
        pattern=_ENDPOINT,
        description="Its replay_endpoint; without one, a lost message costs all that is known of "
        "the replica. Only used together with events_endpoint.",
    )
    events_topic: str = Field(
        default="",
        max_length=256,
        description="Topics to listen to begin with this. Set it when several replicas publish "
        "to one endpoint.",
    )
    events_ranks: Count = Field(
        default=1,
        ge=1,
        le=1024,
        description="Data-parallel ranks of the replica: each publishes one port above the one "
        "before, its replays too. Only used together with events_endpoint; vLLM and SGLang tell "
        "it themselves where they are asked.",
    )
    weight: Number = Field(
        default=1.0,
        gt=0,
        description="Share of new conversations relative to the others when nothing else tells "
        "them apart. Raise it for a faster machine.",
    )
    role: Literal["both", "prefill", "decode"] = Field(
        default="both",
        description="With disagg.connector: prefill computes prompts for others and answers only "
        "when nobody else is left, decode computes for nobody else. Set both to the roles the "
        "engines were started for.",
    )
    kv_host: str = Field(
        default="",
        max_length=256,
        description="Where other replicas reach its KV connector; empty: the host of its URL.",
    )
    kv_port: Count | None = Field(
        default=None,
        le=65535,
        description="Port of its KV connector (Mooncake's and SGLang's bootstrap server, LMCache's "
        "receiver_init_port, the P2P port of P2pNccl and Offloading); unset: the connector's own "
        "default. NIXL tells its port itself.",
    )
    api_key: Secret | None = Field(
        default=None,
        description="Sent to this replica as a bearer token in place of the client's; "
        "unset: upstream.api_key. Set it when replicas have different keys.",
    )

    @model_validator(mode="before")
    @classmethod
    def _normal_form(cls, value: Any) -> Any:
        """Same address, same text: so that duplicates are seen and the default id is stable."""
        if isinstance(value, str):
            value = {"url": value}
        if not isinstance(value, dict) or not isinstance(value.get("url"), str):
            return value
        url, host_port = _split(value["url"])
        named = value.get("id") not in (None, "")
        return value | {"url": url, "id": value["id"] if named else host_port}


def check_roles(replicas: Sequence[ReplicaSettings]) -> None:
    """Raises where nobody is left to answer."""
    if all(replica.role == "prefill" for replica in replicas):
        context = {"at": ("replicas", 0, "role")}
        message = "all replicas are there to prefill: none is left to answer"
        raise PydanticCustomError("roles", message, context)


def _split(url: str) -> tuple[str, str]:
    """Normalised URL and `host:port`; an error that says what is wrong otherwise."""
    try:
        parts = urlsplit(url.strip())
        port = DEFAULT_PORTS.get(parts.scheme) if parts.port is None else parts.port
    except ValueError as error:
        raise _bad_url(url, str(error)) from None
    if parts.scheme not in DEFAULT_PORTS:
        raise _bad_url(url, "it must start with http:// or https://")
    if not parts.hostname or any(c.isspace() for c in parts.hostname):
        raise _bad_url(url, "it names no host")
    if port == 0:
        raise _bad_url(url, "port 0 cannot be reached")
    if parts.username is not None:
        raise _bad_url(parts.hostname, "credentials belong in api_key, not in the URL")
    if parts.path not in ("", "/") or parts.query or parts.fragment:
        raise _bad_url(url, "a path or query is not taken: kvproxy forwards the client's path")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{parts.scheme}://{host}:{port}", f"{host}:{port}"


def _bad_url(url: str, why: str) -> PydanticCustomError:
    context = {"at": ("url",), "url": url, "why": why}
    return PydanticCustomError("replica_url", "'{url}': {why}", context)
