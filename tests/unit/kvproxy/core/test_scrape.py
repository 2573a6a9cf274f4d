import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvproxy.core.scrape import Scrape, read_metrics
from tests.support.shared import shared_path

PAGE = """\
# HELP vllm:num_requests_running Number of requests in model execution batches.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="org/model"} 3.0
vllm:num_requests_running{engine="1",model_name="org/model"} 2.0
vllm:num_requests_waiting{engine="0",model_name="org/model"} 1.0
vllm:num_requests_waiting_by_reason{engine="0",reason="capacity"} 40.0
vllm:cache_config_info{block_size="16",cache_dtype="auto",enable_prefix_caching="True",\
num_gpu_blocks="1000",num_cpu_blocks="None",path="a\\"b}"} 1.0
"""
NOTHING = Scrape(None, None, None, 0, 0)


def test_the_figures_a_router_needs() -> None:
    assert read_metrics(PAGE) == Scrape(16_000, 16, True, 5, 1)


def test_data_parallel_ranks_add_up() -> None:
    config = 'vllm:cache_config_info{block_size="32",engine="%d",num_gpu_blocks="100"} 1.0\n'
    scrape = read_metrics(config % 0 + config % 1)
    assert (scrape.hbm_tokens, scrape.block_size, scrape.prefix_caching) == (6400, 32, None)


def test_sglang_has_other_names_for_them() -> None:
    page = """\
sglang:num_running_reqs{model_name="m"} 3.0
sglang:num_queue_reqs{model_name="m"} 2.0
sglang:cache_config_info{model_name="m",num_pages="100",page_size="64"} 1.0
sglang:generation_tokens_total{model_name="m"} 7.0
"""
    assert read_metrics(page) == Scrape(6400, 64, None, 3, 2, work=7.0)


def test_prefix_caching_switched_off() -> None:
    page = 'vllm:cache_config_info{enable_prefix_caching="False",block_size="16"} 1.0'
    assert read_metrics(page) == Scrape(None, 16, False, 0, 0)


@pytest.mark.parametrize(
    "page",
    [
        "",
        "<html>not found</html>",
        "vllm:cache_config_info{} 1.0",
        'vllm:cache_config_info{block_size="None",num_gpu_blocks="None"} 1.0',
        'vllm:cache_config_info{block_size="-1",num_gpu_blocks="1e3"} 1.0',
        "vllm:num_requests_running NaN",
        "other:num_requests_running 3.0",
    ],
)
def test_pages_that_do_not_say(page: str) -> None:
    scrape = read_metrics(page)
    assert (scrape.hbm_tokens, scrape.block_size, scrape.running) == (None, None, 0)


LINES = st.sampled_from([*PAGE.splitlines(), "vllm:num_requests_running 1e999", "x", "{}"])
DAMAGED = st.lists(LINES, max_size=5).map("\n".join)


@given(DAMAGED, st.integers(0, 200), st.text(max_size=5))
def test_bad_pages_are_nothing_worse_than_a_value_error(page: str, at: int, junk: str) -> None:
    try:
        scrape = read_metrics(page[:at] + junk + page[at:])
    except ValueError:
        return
    assert scrape.running >= 0


@pytest.mark.parametrize("page", ["vllm:num_requests_running 1e999", "vllm:num_requests_running e"])
def test_figures_that_are_no_numbers(page: str) -> None:
    with pytest.raises(ValueError, match=r"1e999|float"):
        read_metrics(page)


@pytest.mark.shared
def test_a_captured_page() -> None:
    page = shared_path("vllm-samples", "vllm_metrics_offloading_connector.txt").read_text()
    scrape = read_metrics(page)
    assert scrape.hbm_tokens is not None
    assert scrape.block_size is not None
    assert scrape.hbm_tokens % scrape.block_size == 0
    assert scrape.prefix_caching is True
