import pytest
from pydantic import ValidationError

from kvproxy.settings.errors import SettingsError
from kvproxy.settings.load import load
from kvproxy.settings.tracing import (
    TracingSettings,
    UnfitEnvironmentError,
    pairs_of,
    trace_terms,
)

URL = "http://c:4318"
ENV = {"OTEL_EXPORTER_OTLP_ENDPOINT": URL}


def settings(**given: object) -> TracingSettings:
    return TracingSettings.model_validate(given)


def test_off_unless_somebody_asks() -> None:
    assert trace_terms(settings(), {}) is None
    assert trace_terms(settings(sample=0.5, service_name="a"), {}) is None
    assert trace_terms(settings(endpoint=URL), {}) is not None
    assert trace_terms(settings(), ENV) is not None


@pytest.mark.parametrize(
    ("endpoint", "whole"),
    [
        (URL, f"{URL}/v1/traces"),
        (URL + "/", f"{URL}/v1/traces"),
        (URL + "/v1/traces", f"{URL}/v1/traces"),
        ("https://c/otlp/v1/traces", "https://c/otlp/v1/traces"),
    ],
)
def test_a_path_is_added_to_an_address_that_has_none(endpoint: str, whole: str) -> None:
    terms = trace_terms(settings(endpoint=endpoint), {})
    assert terms is not None
    assert (terms.endpoint, terms.asked) == (whole, True)


@pytest.mark.parametrize(
    ("env", "endpoint"),
    [
        (ENV, f"{URL}/v1/traces"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": URL + "/base/"}, f"{URL}/base/v1/traces"),
        (ENV | {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://t/x"}, "http://t/x"),
        (ENV | {"OTEL_TRACES_EXPORTER": "console,otlp"}, f"{URL}/v1/traces"),
        (ENV | {"OTEL_TRACES_EXPORTER": "none"}, None),
        (ENV | {"OTEL_SDK_DISABLED": "TRUE"}, None),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": ""}, None),
    ],
)
def test_the_environment_says_where_if_the_settings_do_not(
    env: dict[str, str], endpoint: str | None
) -> None:
    terms = trace_terms(settings(), env)
    assert (terms.endpoint if terms else None) == endpoint
    assert terms is None or not terms.asked
    ours = trace_terms(settings(endpoint="http://ours"), env)
    assert ours is not None
    assert ours.endpoint == "http://ours/v1/traces"


@pytest.mark.parametrize(
    ("sampler", "arg", "sampling"),
    [
        ("", "", (1.0, True)),
        ("always_on", "", (1.0, False)),
        ("always_off", "", (0.0, False)),
        ("parentbased_always_off", "", (0.0, True)),
        ("traceidratio", "0.25", (0.25, False)),
        ("parentbased_traceidratio", "0.25", (0.25, True)),
        ("parentbased_traceidratio", "", (1.0, True)),
    ],
)
def test_the_sampler_of_the_environment(
    sampler: str, arg: str, sampling: tuple[float, bool]
) -> None:
    env = {"OTEL_TRACES_SAMPLER": sampler, "OTEL_TRACES_SAMPLER_ARG": arg}
    terms = trace_terms(settings(endpoint=URL), env)
    assert terms is not None
    assert (terms.sample, terms.follows) == sampling
    ours = trace_terms(settings(endpoint=URL, sample=0.5), env)
    assert ours is not None
    assert (ours.sample, ours.follows) == (0.5, True)


@pytest.mark.parametrize(
    "env",
    [
        {"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"},
        {"OTEL_TRACES_SAMPLER": "jaeger_remote"},
        {"OTEL_EXPORTER_OTLP_HEADERS": "hush"},
        {"OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "2"},
        {"OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "half"},
    ],
)
def test_what_the_environment_asks_for_and_cannot_have_is_named(env: dict[str, str]) -> None:
    with pytest.raises(UnfitEnvironmentError, match=list(env)[-1]):
        trace_terms(settings(), ENV | env)


def test_the_protocol_of_the_environment_is_not_ours() -> None:
    env = {"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}
    ours = trace_terms(settings(endpoint=URL, protocol="http/json"), env)
    assert ours is not None
    assert ours.as_json
    theirs = trace_terms(settings(), ENV | {"OTEL_EXPORTER_OTLP_PROTOCOL": "http/json"})
    assert theirs is not None
    assert theirs.as_json


@pytest.mark.parametrize(
    ("env", "given", "name"),
    [
        ({}, "", "kvproxy"),
        ({"OTEL_SERVICE_NAME": "env"}, "", "env"),
        ({"OTEL_RESOURCE_ATTRIBUTES": "service.name=attr, a=b%20c,odd"}, "", "attr"),
        ({"OTEL_RESOURCE_ATTRIBUTES": "service.name=attr", "OTEL_SERVICE_NAME": "e"}, "", "e"),
        ({"OTEL_SERVICE_NAME": "env"}, "ours", "ours"),
    ],
)
def test_who_speaks(env: dict[str, str], given: str, name: str) -> None:
    terms = trace_terms(settings(endpoint=URL, service_name=given), env)
    assert terms is not None
    assert terms.resource["service.name"] == name
    assert terms.resource.get("a") == ("b c" if "odd" in str(env) else None)


def test_headers_and_authorities_of_the_environment() -> None:
    env = {
        "OTEL_EXPORTER_OTLP_HEADERS": "a=1",
        "OTEL_EXPORTER_OTLP_CERTIFICATE": "/ca.pem",
    }
    terms = trace_terms(settings(endpoint=URL), env)
    assert terms is not None
    assert (terms.headers, terms.tls_ca) == ({"a": "1"}, "/ca.pem")
    env["OTEL_EXPORTER_OTLP_TRACES_HEADERS"] = "b=2"
    terms = trace_terms(settings(endpoint=URL), env)
    assert terms is not None
    assert terms.headers == {"b": "2"}
    terms = trace_terms(settings(endpoint=URL, headers="c=3", tls_ca="/our.pem"), env)
    assert terms is not None
    assert (terms.headers, terms.tls_ca) == ({"c": "3"}, "/our.pem")


@pytest.mark.parametrize(
    ("text", "pairs"),
    [
        ("a=b", {"a": "b"}),
        (" API-Key = s%20x , b=c=d,", {"api-key": "s x", "b": "c=d"}),
        ("a", None),
        ("", None),
        ("=b", None),
        ("a\n=b", {"a": "b"}),
        ("\u00e4=b", None),
        ("a=b%0d%0ac:%20d", None),
    ],
)
def test_headers_are_pairs(text: str, pairs: dict[str, str] | None) -> None:
    assert pairs_of(text) == pairs


@pytest.mark.parametrize(
    "given",
    [
        {"endpoint": "c:4318"},
        {"endpoint": "grpc://c:4317"},
        {"endpoint": "http://user:pass@c"},
        {"endpoint": "http://c/?key=1"},
        {"protocol": "grpc"},
        {"sample": 1.5},
        {"timeout_s": 0},
        {"queue_max": 0},
    ],
)
def test_what_cannot_be_meant_is_refused(given: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        settings(**given)


def test_headers_that_are_none_are_refused_without_being_shown() -> None:
    env = {"KVPROXY_TRACING__HEADERS": "hush", "KVPROXY_REPLICAS": '["http://a"]'}
    with pytest.raises(SettingsError) as refused:
        load(env=env)
    (problem,) = refused.value.problems
    assert "name=value" in str(problem)
    assert "hush" not in str(problem)
