"""Who decides about a trace, and what happens where it cannot be told."""

import builtins
import logging
import sys
from dataclasses import replace
from typing import Any

import pytest

from kvproxy.adapters.http1.tls import TlsError
from kvproxy.adapters.tracing.ports import RUNNING
from kvproxy.app import App
from kvproxy.core.trace import Trace
from kvproxy.core.trace_context import Parent, parent_of
from kvproxy.proxy import Record
from kvproxy.settings.model import Settings
from kvproxy.tracing import Tracing, build_tracing
from tests.support.fake_ports import FakeExchange, Steps, World, stream

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
ON, OFF = f"00-{TRACE}-{SPAN}-01", f"00-{TRACE}-{SPAN}-00"
ENDPOINT = "http://127.0.0.1:9"
BODY = b'{"model":"m","messages":[{"role":"user","content":"hello"}]}'


def settings(**tracing: Any) -> Settings:
    return Settings.model_validate({"replicas": ["http://a:1"], "tracing": tracing})


def built(env: dict[str, str] | None = None, **tracing: Any) -> Tracing | None:
    app = App(settings())
    return build_tracing(settings(**tracing), app.metrics, env or {})


def tracing(env: dict[str, str] | None = None, **given: Any) -> Tracing:
    found = built(env, endpoint=ENDPOINT, **given)
    assert found is not None
    return found


def exchange(parent: str | None, *, state: str = "") -> FakeExchange:
    headers = [] if parent is None else [("traceparent", parent)]
    headers += [("tracestate", state)] if state else []
    raw = [(name.encode(), value.encode()) for name, value in headers]
    return FakeExchange(Steps(), header=dict(headers), raw_headers=raw)


def test_off_unless_asked_for() -> None:
    assert built() is None
    app = App(settings())
    assert app.tracing is None
    assert app.proxy.upstream is app._upstream


def test_a_trace_goes_on_or_begins() -> None:
    trace = tracing().begin(exchange(ON, state="a=1"))
    assert trace is not None
    assert (trace.trace_id, trace.parent) == (TRACE, Parent(TRACE, SPAN, 1, "a=1"))
    assert trace.span_id != SPAN
    for parent in (None, "", "hostile"):
        new = tracing().begin(exchange(parent))
        assert new is not None
        assert (new.parent, new.flags) == (None, 1)


@pytest.mark.parametrize("state", ["", "a=1"])
def test_what_the_client_does_not_sample_passes_as_it_came(state: str) -> None:
    asked = exchange(OFF, state=state)
    before = list(asked.raw_headers)
    assert tracing().begin(asked) is None
    assert list(asked.raw_headers) == before


def test_the_replica_is_told_of_a_trace_that_begins_here_and_is_not_sampled() -> None:
    asked = exchange("hostile", state="a=1")
    assert tracing(sample=0).begin(asked) is None
    parent = parent_of(asked.raw_headers)
    assert parent is not None
    assert (parent.sampled, parent.state) == (False, "")


def test_a_sampler_that_does_not_follow_the_client_tells_the_replica_so() -> None:
    asked = exchange(ON, state="a=1")
    never = tracing({"OTEL_TRACES_SAMPLER": "always_off"})
    assert never.begin(asked) is None
    assert parent_of(asked.raw_headers) == Parent(TRACE, SPAN, 0, "a=1")
    trace = tracing({"OTEL_TRACES_SAMPLER": "always_on"}).begin(exchange(OFF))
    assert trace is not None
    assert (trace.flags, trace.trace_id) == (1, TRACE)


def test_where_headers_are_anothers_their_values_are_read() -> None:
    asked = exchange(ON)
    asked.raw_headers = ()
    trace = tracing().begin(asked)
    assert trace is not None
    assert trace.trace_id == TRACE


def test_a_digest_is_the_same_in_all_processes_of_a_server() -> None:
    one, other = tracing(), tracing()
    assert one._digest("session") == one._digest("session") != one._digest("other")
    assert one._digest("session") == other._digest("session")


async def test_what_a_trace_noted_does_not_outlive_its_request() -> None:
    world, seen = World(stream("a")), list[Trace]()
    traced = tracing(timeout_s=0.1)

    def observe(record: Record) -> None:
        trace = RUNNING.get()
        assert trace is not None
        assert len(trace.legs) == len(trace.waits) == 1
        seen.append(trace)

    proxy = replace(world.proxy, upstream=traced.sending(world.upstream), observe=observe)
    await traced.around(proxy)(world.exchange(BODY))
    assert [(trace.legs, trace.waits) for trace in seen] == [([], [])]
    assert RUNNING.get() is None
    await traced.close()


@pytest.fixture
def without_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def missing(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.startswith("google.protobuf"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return real(name, *args, **kwargs)

    monkeypatch.delitem(sys.modules, "kvproxy.adapters.tracing.as_protobuf", raising=False)
    monkeypatch.setattr(builtins, "__import__", missing)


@pytest.mark.usefixtures("without_the_extra")
def test_asked_for_and_not_installed_is_an_error_that_says_what_to_do() -> None:
    with pytest.raises(SystemExit, match=r"tracing.endpoint needs .*kvproxy\[otel\]"):
        built(endpoint=ENDPOINT)
    assert built(endpoint=ENDPOINT, protocol="http/json") is not None


@pytest.mark.usefixtures("without_the_extra")
def test_an_environment_that_asks_ends_no_proxy(caplog: pytest.LogCaptureFixture) -> None:
    assert built({"OTEL_EXPORTER_OTLP_ENDPOINT": ENDPOINT}) is None
    assert "kvproxy[otel]" in caplog.text


def test_what_the_environment_cannot_have_is_said(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    env = {"OTEL_EXPORTER_OTLP_ENDPOINT": ENDPOINT, "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}
    assert built(env) is None
    assert "OTEL_EXPORTER_OTLP_PROTOCOL is grpc" in caplog.text
    with pytest.raises(SystemExit, match="OTEL_TRACES_SAMPLER"):
        tracing({"OTEL_TRACES_SAMPLER": "odd"})


def test_authorities_that_are_not_there_are_named() -> None:
    with pytest.raises(TlsError, match=r"/nowhere\.pem"):
        tracing(tls_ca="/nowhere.pem")
