"""Spans of requests for an OpenTelemetry collector, and what the environment says about them."""

import re
from collections.abc import Mapping
from typing import Annotated, Literal, NamedTuple
from urllib.parse import unquote, urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator

from kvproxy.settings.kinds import Count, Number, Seconds, Secret

Share = Annotated[Number, Field(ge=0, le=1)]
Protocol = Literal["http/protobuf", "http/json"]
Url = Annotated[str, Field(pattern=r"^(https?://[^/?#@\s]+(/[^?#\s]*)?)?$", max_length=2048)]

_TRACES = "/v1/traces"
_NAME = re.compile(r"[a-z0-9!#$%&'*+.^_`|~-]{1,128}")


class TracingSettings(BaseModel):
    """OpenTelemetry: a trace of each request. What is left out here is read from the OTEL_*
    variables that other programs know."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    endpoint: Url = Field(
        default="",
        description="Where a collector takes OTLP over HTTP, such as http://127.0.0.1:4318; "
        "/v1/traces is added to an address without a path. Empty, and no "
        "OTEL_EXPORTER_OTLP_ENDPOINT: there are no traces, and trace headers pass untouched.",
    )
    protocol: Protocol = Field(
        default="http/protobuf",
        description="How spans are spelled. http/protobuf needs the extra `kvproxy[otel]`; "
        "http/json needs nothing, and takes more bytes.",
    )
    sample: Share | None = Field(
        default=None,
        description="Share of the traces that begin here; a trace that a client began is followed "
        "if the client samples it. Lower it when spans are too many. Unset: "
        "OTEL_TRACES_SAMPLER, else all.",
    )
    service_name: str = Field(
        default="",
        max_length=256,
        description="What this proxy is called in traces. Empty: OTEL_SERVICE_NAME, else kvproxy.",
    )
    headers: Secret | None = Field(
        default=None,
        description="Headers for the collector, as `name=value,name=value`: where it wants a "
        "key. Unset: OTEL_EXPORTER_OTLP_HEADERS.",
    )
    tls_ca: str = Field(
        default="",
        description="PEM file of CAs that an https collector is checked with, besides those of the "
        "system. Empty: OTEL_EXPORTER_OTLP_CERTIFICATE.",
    )
    timeout_s: Seconds = Field(
        default=10.0,
        gt=0,
        description="Time for the collector to take a message, repetitions included; then its "
        "spans are lost. Raise it for one that is restarted often.",
    )
    queue_max: Count = Field(
        default=2048,
        ge=1,
        le=2**20,
        description="Requests whose spans wait for the collector, some 10 kB each; more are "
        "dropped and counted. Raise it for collectors that pause.",
    )

    @field_validator("headers")
    @classmethod
    def _are_pairs(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and pairs_of(value.get_secret_value()) is None:
            raise ValueError("must be name=value,name=value")
        return value


class TraceTerms(NamedTuple):
    """What is to be done: `endpoint` is the whole URL. `asked`: by our own settings, so that it is
    an error where it cannot be. `follows`: a client's trace is sampled as the client says.
    `resource`: what this proxy is called."""

    endpoint: str
    as_json: bool
    sample: float
    follows: bool
    resource: Mapping[str, str]
    headers: Mapping[str, str]
    tls_ca: str
    timeout_s: float
    queue_max: int
    asked: bool


class UnfitEnvironmentError(Exception):
    """OTEL_* variables ask for what kvproxy cannot do; says which."""


def trace_terms(settings: TracingSettings, env: Mapping[str, str]) -> TraceTerms | None:
    """None where nobody asks for traces. Raises UnfitEnvironmentError where only `env` does, and
    not for what can be done."""
    asked = bool(settings.endpoint)
    endpoint = _whole(settings.endpoint) if asked else _endpoint(env)
    if endpoint is None:
        return None
    sampling = (settings.sample, True) if settings.sample is not None else _sampling(env)
    protocol = settings.protocol if asked else _protocol(env)
    return TraceTerms(
        endpoint,
        protocol == "http/json",
        *sampling,
        _resource(settings.service_name, env),
        _headers(settings.headers, env),
        settings.tls_ca or env.get("OTEL_EXPORTER_OTLP_CERTIFICATE", ""),
        settings.timeout_s,
        settings.queue_max,
        asked,
    )


def _headers(given: SecretStr | None, env: Mapping[str, str]) -> Mapping[str, str]:
    if given is not None:
        return pairs_of(given.get_secret_value()) or {}
    name = "OTEL_EXPORTER_OTLP_TRACES_HEADERS"
    found = env.get(name, "") or env.get("OTEL_EXPORTER_OTLP_HEADERS", "")
    headers = pairs_of(found)
    if headers is None and found.strip():
        raise UnfitEnvironmentError("OTEL_EXPORTER_OTLP_HEADERS is not name=value,name=value")
    return headers or {}


def _resource(service_name: str, env: Mapping[str, str]) -> Mapping[str, str]:
    told = {"service.name": "kvproxy"}
    for each in env.get("OTEL_RESOURCE_ATTRIBUTES", "").split(","):
        name, equals, value = each.partition("=")
        if equals and name.strip():
            told[name.strip()] = unquote(value.strip())
    given = service_name or env.get("OTEL_SERVICE_NAME", "").strip()
    return told | ({"service.name": given} if given else {})


def pairs_of(text: str) -> dict[str, str] | None:
    """As OTEL_EXPORTER_OTLP_HEADERS has them, values with %-escapes; None if they are not."""
    pairs: dict[str, str] = {}
    for each in filter(None, (part.strip() for part in text.split(","))):
        name, equals, value = each.partition("=")
        name, value = name.strip().lower(), unquote(value.strip())
        if not equals or not _NAME.fullmatch(name) or not value.isprintable():
            return None
        pairs[name] = value
    return pairs or None


def _whole(endpoint: str) -> str:
    path = urlsplit(endpoint).path
    return endpoint if path not in ("", "/") else endpoint.rstrip("/") + _TRACES


def _endpoint(env: Mapping[str, str]) -> str | None:
    """As the OpenTelemetry specification has it: that of traces is whole, the other a base."""
    exporters = env.get("OTEL_TRACES_EXPORTER", "") or "otlp"
    if env.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return None
    if "otlp" not in [each.strip().lower() for each in exporters.split(",")]:
        return None
    whole = env.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "").strip()
    base = env.get("OTEL_EXPORTER_OTLP_ENDPOINT", "").strip()
    return whole or (base.rstrip("/") + _TRACES if base else None)


def _protocol(env: Mapping[str, str]) -> str:
    name = "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL"
    given = env.get(name, "") or env.get("OTEL_EXPORTER_OTLP_PROTOCOL", "")
    asked = given.strip().lower() or "http/protobuf"
    if asked not in ("http/protobuf", "http/json"):
        raise UnfitEnvironmentError(f"OTEL_EXPORTER_OTLP_PROTOCOL is {asked}")
    return asked


def _sampling(env: Mapping[str, str]) -> tuple[float, bool]:
    """The share, and whether a client's own decision goes before it."""
    name = env.get("OTEL_TRACES_SAMPLER", "").strip().lower() or "parentbased_always_on"
    kind = name.removeprefix("parentbased_")
    follows = kind != name
    if kind == "always_on":
        return 1.0, follows
    if kind == "always_off":
        return 0.0, follows
    if kind != "traceidratio":
        raise UnfitEnvironmentError(f"OTEL_TRACES_SAMPLER is {name}")
    given = env.get("OTEL_TRACES_SAMPLER_ARG", "").strip() or "1"
    try:
        share = float(given)
    except ValueError:
        share = -1.0
    if not 0 <= share <= 1:
        raise UnfitEnvironmentError(f"OTEL_TRACES_SAMPLER_ARG is {given}")
    return share, follows
