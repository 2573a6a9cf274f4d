"""The few figures a router needs from the /metrics page of vLLM or SGLang."""

import re
from dataclasses import dataclass
from math import isfinite

_CONFIG = re.compile(r"^(?:vllm|sglang):cache_config_info\{(.*)\}", re.MULTILINE)
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
_BEGAN = re.compile(r"^process_start_time_seconds ([0-9.eE+-]+)", re.MULTILINE)
_ASLEEP = re.compile(
    r'^vllm:engine_sleep_state\{[^}]*sleep_state="(?:weights_offloaded|discard_all)"[^}]*\} 1',
    re.MULTILINE,
)
# All that a step moves: a long prefill yields no token for seconds, but each of its steps counts.
_WORK = re.compile(
    r"^(?:vllm|sglang):(?:prompt_tokens_total|generation_tokens_total|iteration_tokens_total_count)"
    r"(?:\{[^}]*\})? ([0-9.eE+-]+)",
    re.MULTILINE,
)
_GAUGES = re.compile(
    r"^(vllm:num_requests_running|vllm:num_requests_waiting|sglang:num_running_reqs"
    r"|sglang:num_queue_reqs)(?:\{[^}]*\})? ([0-9.eE+-]+)",
    re.MULTILINE,
)
_WAITING = ("vllm:num_requests_waiting", "sglang:num_queue_reqs")


@dataclass(frozen=True, slots=True)
class Scrape:
    """Tokens and requests; None where the page does not say. `process_began` in Unix seconds;
    `work` is a sum of counters that grows whenever the engine gets something done."""

    hbm_tokens: int | None
    block_size: int | None
    prefix_caching: bool | None
    running: int
    waiting: int
    process_began: float | None = None
    asleep: bool = False
    work: float | None = None


def read_metrics(page: str) -> Scrape:
    """Gauges of several data-parallel ranks are added up, and so are their caches.

    Raises ValueError where a figure is no number.
    """
    block_size = None
    hbm_tokens = 0
    prefix_caching = None
    for config in _CONFIG.finditer(page):
        labels = dict(_LABEL.findall(config[1]))
        block_size = _whole(labels.get("block_size") or labels.get("page_size"))
        blocks = _whole(labels.get("num_gpu_blocks") or labels.get("num_pages"))
        hbm_tokens += (block_size or 0) * (blocks or 0)
        prefix_caching = {"True": True, "False": False}.get(labels.get("enable_prefix_caching", ""))
    running = waiting = 0
    for name, value in _GAUGES.findall(page):
        if name in _WAITING:
            waiting += _requests(value)
        else:
            running += _requests(value)
    work = [float(value) for value in _WORK.findall(page)]
    began = _BEGAN.search(page)
    return Scrape(
        hbm_tokens=hbm_tokens or None,
        block_size=block_size,
        prefix_caching=prefix_caching,
        running=running,
        waiting=waiting,
        process_began=float(began[1]) if began else None,
        asleep=_ASLEEP.search(page) is not None,
        work=sum(work) if work else None,
    )


def _whole(value: str | None) -> int | None:
    return int(value) if value is not None and value.isdigit() else None


def _requests(value: str) -> int:
    number = float(value)
    if not isfinite(number):
        raise ValueError(f"a gauge says {value} requests")
    return int(number)
