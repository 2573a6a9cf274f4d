from datetime import UTC, datetime

import pytest

from kvproxy.admin.doctor import pages

PAGE = """\
# HELP vllm:prefix_cache_hits_total Cached tokens.
vllm:prefix_cache_hits_total{engine="0"} 5.0
vllm:prefix_cache_hits_total{engine="1"} 2.5e1
vllm:cache_config_info{block_size="16",cache_dtype="fp8",enable_prefix_caching="True"} 1.0
vllm:engine_sleep_state{engine="0",sleep_state="weights_offloaded"} 1.0
lmcache:num_hit_tokens_total 7
other_total 1
"""


def test_a_metrics_page() -> None:
    read = pages.read_metrics(PAGE)
    assert (read.engine, read.asleep, read.cache["cache_dtype"]) == ("vllm", True, "fp8")
    assert read.samples["vllm:prefix_cache_hits_total"] == 30
    assert read.samples["lmcache:num_hit_tokens_total"] == 7
    assert "other_total" not in read.samples


def test_a_page_that_is_none() -> None:
    read = pages.read_metrics("<html>vllm:x nan\nvllm:y 1e\n")
    assert (read.engine, read.cache, read.asleep) == ("", {}, False)


@pytest.mark.parametrize(
    ("page", "version"),
    [
        (b'{"version":"0.32.0+cpu"}', (0, 32, 0)),
        (b'{"version":"0.19"}', (0, 19, 0)),
        (b'{"version":"v1.2.3rc1"}', (1, 2, 3)),
        (b'{"version":"dev"}', ()),
        (b"[]", ()),
        (b"\xff", ()),
    ],
)
def test_versions(page: bytes, version: tuple[int, ...]) -> None:
    assert pages.read_version(page) == version


def test_version_text() -> None:
    assert pages.version_text((0, 32, 0)) == "0.32.0"
    assert pages.version_text(()) == "of unknown version"


@pytest.mark.parametrize(
    ("page", "ranks"),
    [
        (b'{"vllm_config": "model=\'m\', tensor_parallel_size=8, x"}', 8),
        (b'{"tensor_parallel_size": 4}', 4),
        (b"{}", None),
    ],
)
def test_ranks(page: bytes, ranks: int | None) -> None:
    assert pages.read_tensor_parallel(page) == ranks


@pytest.mark.parametrize(
    ("date", "skew"),
    [
        ("Sat, 28 Nov 2026 12:00:00 GMT", 0.0),
        ("Sat, 28 Nov 2026 12:02:00 GMT", 119.0),
        ("Sat, 28 Nov 2026 11:59:00 GMT", -59.5),
        ("yesterday", None),
        ("", None),
    ],
)
def test_skew(date: str, skew: float | None) -> None:
    noon = datetime(2026, 11, 28, 12, tzinfo=UTC).timestamp()
    assert pages.skew_s(date, noon + 0.5, noon + 1) == skew


def test_dates_in_the_spellings_of_templates() -> None:
    spelled = pages.dates_about(datetime(2026, 11, 28, tzinfo=UTC))
    assert {"2026-11-28", "28 Nov 2026", "November 28, 2026", "27 Nov 2026"} <= set(spelled)
