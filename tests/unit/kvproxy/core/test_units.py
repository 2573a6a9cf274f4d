import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvproxy.core.units import format_count, parse_count, parse_duration


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("0", 0),
        ("128000", 128_000),
        ("128k", 128_000),
        ("128K", 128_000),
        ("1M", 1_000_000),
        ("1.5M", 1_500_000),
        ("2G", 2_000_000_000),
        ("1T", 10**12),
        ("4Ki", 4096),
        ("1.5Ki", 1536),
        ("64Mi", 64 * 2**20),
        ("64MiB", 64 * 2**20),
        ("1Gi", 2**30),
        (" 1 M ", 1_000_000),
        ("1_000_000", 1_000_000),
        ("0.001M", 1000),
    ],
)
def test_counts(text: str, count: int) -> None:
    assert parse_count(text) == count


@pytest.mark.parametrize(
    "text",
    [
        "",
        "k",
        "1.5",
        "1.2345k",
        "-1",
        "+1",
        "1e6",
        "1,000",
        "1MB",
        "1m",
        "1kk",
        "0x10",
        "١٢",
        "9" * 40,
    ],
)
def test_what_is_no_count_says_what_is_accepted(text: str) -> None:
    with pytest.raises(ValueError, match="accepted: 128000, 128k"):
        parse_count(text)


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0"),
        (999, "999"),
        (1000, "1k"),
        (8080, "8080"),
        (65_536, "64Ki"),
        (128_000, "128k"),
        (1_000_000, "1M"),
        (1_500_000, "1.5M"),
        (1_234_567, "1234567"),
        (64 * 2**20, "64Mi"),
    ],
)
def test_counts_are_written_short(count: int, text: str) -> None:
    assert format_count(count) == text


@given(st.integers(0, 2**60) | st.integers(0, 5000).map(lambda n: n * 500_000))
def test_what_is_written_reads_back(count: int) -> None:
    text = format_count(count)
    assert parse_count(text) == count
    assert len(text) <= len(str(count))


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("30", 30.0),
        ("0.25", 0.25),
        ("30s", 30.0),
        ("250ms", 0.25),
        ("5m", 300.0),
        ("1.5h", 5400.0),
        ("2d", 172_800.0),
        ("4 h", 14_400.0),
    ],
)
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "s", "-5s", "5 minutes", "1h30m", "5M", "nan", "inf"])
def test_what_is_no_duration_says_what_is_accepted(text: str) -> None:
    with pytest.raises(ValueError, match="accepted: 30, 30s"):
        parse_duration(text)
