"""What tests/integration/test_picker.py cannot see from outside."""

import pytest

from kvproxy.adapters.http1.listener import ListenError
from kvproxy.picker import PickerApp, run
from kvproxy.settings.model import Settings


def settings(**epp: object) -> Settings:
    tree = {"replicas": ["http://127.0.0.1:1"], "server": {"port": 0}, "epp": {"port": 0, **epp}}
    return Settings.model_validate(tree)


async def test_an_address_that_is_taken_is_an_error_with_a_place() -> None:
    first = PickerApp(settings())
    await first.start()
    port = int(first.picker_address.rsplit(":", 1)[1])
    second = PickerApp(settings(port=port))
    with pytest.raises(ListenError, match=f"127.0.0.1:{port}"):
        await second.start()
    await second.close()
    await first.stop()


def test_two_legs_are_more_than_envoy_can_carry(capsys: pytest.CaptureFixture[str]) -> None:
    tree = {
        "replicas": [
            {"url": "http://127.0.0.1:1", "role": "prefill"},
            {"url": "http://127.0.0.1:2", "role": "decode"},
        ],
        "disagg": {"connector": "nixl"},
    }
    assert run(Settings.model_validate(tree)) == 2
    assert "disagg.connector" in capsys.readouterr().err


def test_the_picker_is_one_process(capsys: pytest.CaptureFixture[str]) -> None:
    tree = {"replicas": ["http://127.0.0.1:9"], "server": {"workers": 2}}
    assert run(Settings.model_validate(tree)) == 2
    assert "server.workers" in capsys.readouterr().err


async def test_a_key_that_is_not_there_is_an_error_too() -> None:
    app = PickerApp(settings(tls_key_file="/nowhere.pem", tls_cert_file="/nowhere.pem"))
    with pytest.raises(ListenError, match="for Envoy"):
        await app.start()
    await app.close()
