"""Both ends of a request: where clients connect, and how replicas are reached."""

from ipaddress import ip_network
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from kvproxy.settings.header_names import CLIENT_SECRETS, REPLICA_SECRETS, Allowed, Dropped
from kvproxy.settings.kinds import FROM_LIST, Count, Seconds, Secret, Switch
from kvproxy.settings.workers import WorkerKeys

# As browsers write it: without a slash at its end, and in lower case.
Origin = Annotated[str, Field(pattern=r"^(\*|null|[a-z][a-z0-9+.-]*://[^/\sA-Z]+)$")]


class ServerSettings(WorkerKeys, BaseModel):
    """Where clients connect, and what they may send."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    host: str = Field(
        default="127.0.0.1",
        min_length=1,
        description="Address to listen on. 0.0.0.0 or :: serves other hosts too: put "
        "authentication in front first.",
    )
    port: Count = Field(
        default=8080, le=65535, description="Port to listen on; 0 lets the system choose one."
    )
    max_body_bytes: Count = Field(
        default=64 * 2**20,
        ge=1,
        description="Largest request body; larger ones get 413. Raise it for images in prompts.",
    )
    max_header_bytes: Count = Field(
        default=64 * 2**10,
        ge=1024,
        description="Largest request head. Raise it when a gateway in front adds large tokens.",
    )
    body_timeout_s: Seconds = Field(
        default=60.0,
        gt=0,
        description="Time for a client to send a request, and longest time it may take nothing of "
        "an answer. Raise it for slow uplinks.",
    )
    keepalive_timeout_s: Seconds = Field(
        default=75.0,
        gt=0,
        description="How long an idle client connection stays open. Keep it above that of a "
        "load balancer in front, or that one meets closed connections.",
    )
    grace_s: Seconds = Field(
        default=30.0,
        ge=0,
        description="Time for running answers to end after SIGTERM. Keep it below the "
        "supervisor's own limit (Kubernetes: terminationGracePeriodSeconds).",
    )
    drain_delay_s: Seconds = Field(
        default=0.0,
        ge=0,
        description="Time after SIGTERM in which clients are still served as ever while /readyz "
        "says 503. Raise it to 5 where load balancers take a while to look elsewhere (Kubernetes), "
        "or they meet refused connections. A second SIGTERM ends all at once, answers too.",
    )
    max_connections: Count = Field(
        default=10_000,
        ge=1,
        description="Client connections at a time. Beyond, the longest without a request give way; "
        "where all have one, new ones are refused. Keep it below half the limit of open files: a "
        "streaming request needs two.",
    )
    trusted_proxies: Annotated[tuple[str, ...], FROM_LIST] = Field(
        default=(),
        max_length=256,
        description="Networks of the proxies in front, such as 10.0.0.0/8: the X-Forwarded and "
        "Forwarded headers of others are not passed on. Set it where replicas log them.",
    )
    cors_origins: Annotated[tuple[Origin, ...], FROM_LIST] = Field(
        default=(),
        max_length=256,
        description="Origins of web pages that may send requests, such as https://chat.example; * "
        "for all. What replicas allow by themselves does not count here.",
    )
    drop_headers: Dropped = Field(
        default=REPLICA_SECRETS,
        description="Headers of replicas' answers that clients do not see, as names or as "
        "beginnings (x-internal-*). x-kvproxy-replica here keeps the names of replicas to "
        "yourself; add server to say nothing of the engine.",
    )
    tls_cert: str = Field(
        default="",
        description="PEM file with the certificate and what chains it to its CA: clients connect "
        "with https. Empty: http. The files are read again on SIGHUP.",
    )
    tls_key: str = Field(
        default="", description="PEM file with its private key; empty: it is in tls_cert."
    )
    tls_client_ca: str = Field(
        default="",
        description="PEM file of CAs: clients must show a certificate that one of them signed. Set "
        "it where the network does not tell who connects.",
    )

    @property
    def ends_in_s(self) -> float:
        """Longest time from SIGTERM to the last answer."""
        return self.drain_delay_s + self.grace_s

    @field_validator("trusted_proxies")
    @classmethod
    def _are_networks(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for network in value:
            ip_network(network)
        return value

    @model_validator(mode="after")
    def _tls_is_whole(self) -> Self:
        if not self.tls_cert and (self.tls_key or self.tls_client_ca):
            raise ValueError("tls_key and tls_client_ca need a tls_cert")
        return self


class UpstreamSettings(BaseModel):
    """Connections to the replicas."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    connect_timeout_s: Seconds = Field(
        default=5.0,
        gt=0,
        description="Time to reach a replica before another one is tried. Raise it across regions.",
    )
    idle_timeout_s: Seconds = Field(
        default=600.0,
        gt=0,
        description="Longest silence of a replica, first token included, before the request "
        "fails. Raise it when prompts prefill for longer than this.",
    )
    keepalive_s: Seconds = Field(
        default=4.0,
        ge=0,
        description="How long an idle connection to a replica is kept. Keep it below the "
        "engine's own limit (vLLM: 5 s), or requests meet closed connections.",
    )
    continue_streams: Switch = Field(
        default=False,
        description="A stream of plain text that breaks off goes on on another replica, which is "
        "sent the prompt and what was generated so far. Off, it ends with an error event. Turn it "
        "on where clients cannot repeat a request, and the engine's templates know "
        "continue_final_message. Not for tools, grammars, reasoning, log probabilities or n > 1.",
    )
    api_key: Secret | None = Field(
        default=None,
        description="Sent to every replica as a bearer token in place of the client's; unset: "
        "the client's own header is forwarded. Set it when replicas need a key.",
    )
    drop_headers: Dropped = Field(
        default=CLIENT_SECRETS,
        description="Request headers that replicas do not see, as names or as beginnings "
        "(x-internal-*). The default has what browsers and proxies that log people in add. kvproxy "
        "reads them all the same. Add what your own gateway adds.",
    )
    allow_headers: Allowed = Field(
        default=(),
        description="Where given, the only request headers that replicas see, beside what HTTP "
        "and kvproxy need: authorization too has to be named. Empty: all that are not dropped. Set "
        "it where replicas are somebody else's.",
    )
    tls_ca: str = Field(
        default="",
        description="PEM file of CAs that https replicas are checked with, besides those of the "
        "system. Set it for replicas whose certificates are your own.",
    )
    tls_verify: Switch = Field(
        default=True,
        description="Check who an https replica is. Turned off, whoever is on the way can read "
        "and answer requests.",
    )
    tls_cert: str = Field(
        default="", description="PEM file with kvproxy's own certificate, for replicas that ask."
    )
    tls_key: str = Field(
        default="", description="PEM file with its private key; empty: it is in tls_cert."
    )
