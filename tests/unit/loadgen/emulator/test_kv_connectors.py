from kvproxy.core.disagg.connectors import Connector
from loadgen.emulator.kv_connectors import CONNECTORS


def test_the_emulator_has_every_connector_that_the_proxy_speaks() -> None:
    assert set(CONNECTORS) == set(Connector)
