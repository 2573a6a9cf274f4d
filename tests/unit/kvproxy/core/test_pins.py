import pytest

from kvproxy.core import pins as module
from kvproxy.core.errors import ProxyError
from kvproxy.core.pins import Pins
from tests.support.makers import make_replica

A, B = make_replica("a"), make_replica("b")


def test_a_pinned_session_sees_only_its_replica_while_that_can_be_used() -> None:
    pins = Pins()
    pins.pin("s", "b")
    assert pins.narrow("s", [A, B]) == [B]
    assert pins.narrow("s", [A]) == [A]
    assert pins.narrow("other", [A, B]) == [A, B]
    assert pins.of("b") == ["s"]


def test_pins_end_by_hand_and_with_their_replica() -> None:
    pins = Pins()
    pins.pin("s", "a")
    pins.pin("t", "a")
    assert pins.unpin("s")
    assert not pins.unpin("s")
    pins.forget_replica("b")
    assert len(pins) == 1
    pins.forget_replica("a")
    assert len(pins) == 0


def test_they_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_PINS_MAX", 1)
    pins = Pins()
    pins.pin("s", "a")
    pins.pin("s", "b")
    with pytest.raises(ProxyError, match="pinned already"):
        pins.pin("t", "a")
