import pytest

from kvproxy.core.headers import end_to_end, text


def test_order_and_repetition_survive() -> None:
    headers = [(b"b", b"1"), (b"a", b"2"), (b"b", b"3")]
    assert end_to_end(headers) == headers


def test_spelling_survives_and_what_is_asked_for_is_left_out() -> None:
    headers = [(b"X-A", b"1"), (b"x-a", b"2"), (b"X-B", b"\xff")]
    assert end_to_end(headers) == headers
    assert end_to_end(headers, frozenset({b"x-a"})) == [(b"X-B", b"\xff")]


@pytest.mark.parametrize("name", [b"TE", b"Connection", b"transfer-encoding", b"Upgrade"])
def test_headers_of_one_hop_stay_behind(name: bytes) -> None:
    assert end_to_end([(name, b"x"), (b"Kept", b"y")]) == [(b"Kept", b"y")]


def test_what_connection_names_stays_behind() -> None:
    headers = [(b"X-A", b"1"), (b"Connection", b"close, x-a"), (b"connection", b"X-B")]
    assert end_to_end([*headers, (b"x-b", b"2"), (b"x-c", b"3")]) == [(b"x-c", b"3")]


@pytest.mark.parametrize("value", ["plain", "é 日本 🙂", ""])
def test_utf8_round_trips(value: str) -> None:
    assert text(value.encode()) == value


def test_what_is_no_utf8_has_no_surrogates() -> None:
    assert text(b"caf\xe9") == "café"
