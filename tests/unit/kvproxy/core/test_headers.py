import pytest

from kvproxy.core.headers import end_to_end, text


def test_order_and_repetition_survive() -> None:
    headers = [(b"b", b"1"), (b"a", b"2"), (b"b", b"3")]
    assert end_to_end(headers) == [("b", "1"), ("a", "2"), ("b", "3")]


def test_a_repeated_name_keeps_its_first_spelling() -> None:
    assert end_to_end([(b"X-A", b"1"), (b"x-a", b"2")]) == [("X-A", "1"), ("X-A", "2")]


@pytest.mark.parametrize("name", [b"TE", b"Connection", b"transfer-encoding", b"Upgrade"])
def test_headers_of_one_hop_stay_behind(name: bytes) -> None:
    assert end_to_end([(name, b"x"), (b"Kept", b"y")]) == [("Kept", "y")]


def test_what_connection_names_stays_behind() -> None:
    headers = [(b"X-A", b"1"), (b"Connection", b"close, x-a"), (b"connection", b"X-B")]
    assert end_to_end([*headers, (b"x-b", b"2"), (b"x-c", b"3")]) == [("x-c", "3")]


@pytest.mark.parametrize("value", ["plain", "é 日本 🙂", ""])
def test_utf8_round_trips(value: str) -> None:
    assert text(value.encode()) == value


def test_what_is_no_utf8_has_no_surrogates() -> None:
    assert text(b"caf\xe9") == "café"
