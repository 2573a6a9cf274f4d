import pytest

from kvproxy.core import pins as module
from kvproxy.core.affinity import SessionKey
from kvproxy.core.errors import ProxyError
from kvproxy.core.pins import Pins
from tests.support.makers import make_replica

KEY = ("", "m", "s", "agent")
A, B = make_replica("a"), make_replica("b")


def test_a_pinned_session_sees_only_its_replica_while_that_can_be_used() -> None:
    pins = Pins()
    pins.pin("s", "b")
    for key in (("", "m", "s", ""), ("", "m", "s", "agent"), b"digest of it"):
        assert pins.narrow("s", key, [A, B]) == [B]
        assert pins.narrow("s", key, [A]) == [A]
    assert pins.narrow("other", KEY, [A, B]) == [A, B]
    assert pins.of("b") == ["s"]


@pytest.mark.parametrize("key", [KEY, b"digest of it"])
def test_a_pinned_conversation_goes_before_its_session(key: SessionKey) -> None:
    pins = Pins()
    pins.pin("s", "a")
    pins.pin(key, "b")
    assert pins.narrow("s", key, [A, B]) == [B]
    assert pins.narrow("s", ("", "m", "s", "another"), [A, B]) == [A]
    assert pins.tied(key) == (key, "b")
    assert list(pins) == [(key, "b"), ("s", "a")]
    assert pins.unpin(key)
    assert pins.narrow("s", key, [A, B]) == [A]


def test_what_is_tied_with_its_session_is_let_go_with_it() -> None:
    pins = Pins()
    pins.pin("s", "a")
    assert pins.tied(KEY) == ("s", "a")
    assert pins.unpin(KEY)
    assert pins.tied(KEY) is None
    assert not pins
    # A digest does not say whose session it is.
    pins.pin("s", "a")
    assert pins.tied(b"digest of it") is None
    assert pins.tied(("", "m", "", "")) is None


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
