import pytest

from kvproxy.adapters.http1.known import Head, KnownHeads

RAW = b"POST /%d HTTP/1.1\r\nContent-Length: %d\r\nHost: a\r\n\r\n"


def head(target: str = "/") -> Head:
    return Head("POST", target, target, ((b"Host", b"a"),), {"host": "a"}, "", keep_alive=True)


def test_a_head_is_known_whatever_length_it_states() -> None:
    known, one = KnownHeads(), head()
    known.add(RAW % (1, 5), len(RAW % (1, 5)), one)
    for length in (5, 0, 123_456_789):
        raw = RAW % (1, length)
        assert known.find(raw + b"body", len(raw)) == (one, length)
    assert known.find(RAW % (2, 5), len(RAW % (2, 5))) is None


@pytest.mark.parametrize(
    "change",
    [
        (b"Length: 5", b"Length: 5 "),
        (b"Length: 5", b"Length:5"),
        (b"Length: 5", b"Length: -5"),
        (b"Length: 5", b"Length: " + b"9" * 16),
        (b"Length: 5", b"Length: 5\r\nContent-Length: 5"),
        (b"Host: a", b"Host: b"),
        (b"Host: a", b"Host: a\r\nContent-Length: 5"),
    ],
)
def test_any_other_difference_makes_another_head(change: tuple[bytes, bytes]) -> None:
    known, raw = KnownHeads(), RAW % (1, 5)
    known.add(raw, len(raw), head())
    other = raw.replace(*change)
    assert other != raw
    assert known.find(other, len(other)) is None


def test_what_is_no_candidate_is_not_kept() -> None:
    known = KnownHeads()
    for raw in (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", RAW % (1, 5) + b"x" * 2048):
        known.add(raw, len(raw), head())
    assert len(known) == 0


def test_the_oldest_goes() -> None:
    known = KnownHeads(2)
    raws = [RAW % (number, 5) for number in range(3)]
    for raw in raws:
        known.add(raw, len(raw), head())
    assert [known.find(raw, len(raw)) is not None for raw in raws] == [False, True, True]
