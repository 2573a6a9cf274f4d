from typing import ClassVar

import pytest

from kvproxy.core.access import Caller, Key
from kvproxy.core.errors import ProxyError
from kvproxy.core.identify import HEADER_RULES
from kvproxy.core.pools import Arm, Pools
from kvproxy.passing_on import pass_on
from tests.support.fake_ports import FakeExchange, Steps
from tests.support.makers import make_replica


def pools() -> Pools:
    made = Pools(lambda: [make_replica("r", models=("org/x",))])
    made.replace({"one": [Arm("org/x")]}, {})
    return made


class Tunnel:
    tunnels = True
    target = "/v1/realtime?a=1&model=one"
    header: ClassVar[dict[str, str]] = {}


def test_a_tunnel_names_its_model_in_the_query() -> None:
    exchange = Tunnel()
    named, body = pass_on(pools(), HEADER_RULES, exchange, Caller(), b"")
    assert (named.model, body) == ("org/x", b"")
    assert exchange.target == "/v1/realtime?a=1&model=org%2Fx"


def test_keys_are_for_the_name_that_was_sent() -> None:
    exchange = FakeExchange(Steps(), b"", header={"content-type": "application/json"})
    body = b'{"model":"one"}'
    allowed = Caller(Key("k", "", "t", frozenset({"one"})))
    assert pass_on(pools(), HEADER_RULES, exchange, allowed, body)[1] == b'{"model":"org/x"}'
    with pytest.raises(ProxyError, match="may not use"):
        pass_on(pools(), HEADER_RULES, exchange, allowed, b'{"model":"org/x"}')


@pytest.mark.parametrize(
    "body",
    [b'{"kv_transfer_params":{}}', b'{"sampling_params":{"extra_args":{"bootstrap_room":1}}}'],
)
def test_what_is_passed_unread_commands_no_engine_either(body: bytes) -> None:
    """/inference/v1/generate, or a path of ours that is spelt with escapes."""
    exchange = FakeExchange(Steps(), b"", header={"content-type": "application/json"})
    assert pass_on(pools(), HEADER_RULES, exchange, Caller(), body)[1] == body
    with pytest.raises(ProxyError, match="for engines among themselves"):
        pass_on(pools(), HEADER_RULES, exchange, Caller(Key("k", "", "t"), commands=False), body)
