import pytest

from kvproxy.admin import conversations
from kvproxy.admin.conversations import Conversations, session_label
from kvproxy.core.errors import ProxyError
from kvproxy.core.types import Identity
from tests.support.makers import make_router

KEYS = [("", "m", f"session-{n}", "") for n in range(100)]


def conversed(count: int = 3) -> Conversations:
    router = make_router(2)
    for n, key in enumerate(KEYS[:count]):
        router.bind(key, f"r{n % 2}", 1000 + n, float(n))
    return Conversations(router)


def test_labels_tell_conversations_apart_and_nothing_else() -> None:
    one, other = session_label(("t", "m", "mine", "")), session_label(("t", "m", "yours", ""))
    assert one != other
    assert len(one) == 10
    assert session_label(b"\x01\x02") != one


def test_the_last_used_come_first() -> None:
    shown = conversed()
    rows = shown.rows(10.0)
    assert [row["session"] for row in rows] == [session_label(key) for key in KEYS[2::-1]]
    assert rows[0] == {
        "session": session_label(KEYS[2]),
        "replica": "r0",
        "tokens": 1002,
        "idle_s": 8.0,
        "pinned": None,
        "pinned_with_session": False,
    }
    assert "session-" not in str(rows)


def test_a_name_that_was_shown_is_found_and_no_other() -> None:
    shown = conversed()
    with pytest.raises(ProxyError) as raised:
        shown.find(session_label(KEYS[0]))
    assert raised.value.code == "not_found"
    shown.rows(10.0)
    assert shown.find(session_label(KEYS[0])) == KEYS[0]


def test_pinned_ones_come_first_wherever_they_are() -> None:
    shown = conversed(100)
    pins = shown._router.pins
    pins.pin(KEYS[98], "r1")
    # Long unused, one that nobody has seen, and one with all agents of its session.
    pins.pin(KEYS[1], "r0")
    pins.pin("never seen", "r1")
    pins.pin("session-97", "r0")
    rows = shown.rows(200.0)
    assert [(row["session"], row["pinned"], row["pinned_with_session"]) for row in rows[:5]] == [
        (session_label("never seen"), "r1", True),
        (session_label(KEYS[1]), "r0", False),
        (session_label(KEYS[98]), "r1", False),
        (session_label(KEYS[97]), "r0", True),
        (session_label(KEYS[99]), None, False),
    ]
    assert rows[0]["replica"] is None
    assert rows[1]["replica"] == "r1"
    assert len(rows) == 42
    assert shown.find(session_label("never seen")) == "never seen"


def test_a_pin_by_the_name_moves_the_next_turn() -> None:
    shown = conversed()
    router = shown._router
    identity = Identity(*KEYS[0])
    for replica in ("r1", "r0"):
        shown.rows(10.0)
        router.pins.pin(shown.find(session_label(KEYS[0])), replica)
        candidates = router.usable("m")
        assert [r.id for r in router.pins.narrow(identity.session, identity.key, candidates)] == [
            replica
        ]


def test_what_is_remembered_of_names_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conversations, "_NAMES_MAX", 2)
    shown = conversed(3)
    shown.rows(10.0)
    with pytest.raises(ProxyError):
        shown.find(session_label(KEYS[2]))
    assert shown.find(session_label(KEYS[0])) == KEYS[0]
