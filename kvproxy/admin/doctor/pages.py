"""Replicas' own pages as values. Pure: bytes in, facts out."""

import re
from collections import defaultdict
from datetime import datetime, timedelta
from email.utils import parsedate_to_datetime

import msgspec

from kvproxy.admin.doctor.facts import Version

_CONFIG = re.compile(r"^(vllm|sglang):cache_config_info\{(.*)\}", re.MULTILINE)
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
_SAMPLE = re.compile(r"^([A-Za-z_:][\w:]*)(?:\{[^}]*\})? ([0-9.eE+-]+)", re.MULTILINE)
_SUMMED = ("vllm:", "sglang:", "lmcache:", "lmcache_mp")
_ASLEEP = re.compile(
    r'^vllm:engine_sleep_state\{[^}]*sleep_state="(?:weights_offloaded|discard_all)"[^}]*\} 1',
    re.MULTILINE,
)
_RANKS = re.compile(r"tensor_parallel_size['\"]?\s*[=:]\s*(\d+)")
# What the lines of a template that prints the day look like, on any day.
_DATE_FORMATS = (
    *("%Y-%m-%d", "%Y/%m/%d", "%d %b %Y", "%d %B %Y", "%B %d, %Y", "%b %d, %Y", "%m/%d/%Y"),
    *("%d/%m/%Y", "%d.%m.%Y"),
)


class Metrics(msgspec.Struct):
    """`cache`: labels of cache_config_info; `samples`: summed over labels."""

    engine: str
    cache: dict[str, str]
    samples: dict[str, float]
    asleep: bool


def read_metrics(page: str) -> Metrics:
    """Of a page that is no Prometheus text, nothing."""
    config = _CONFIG.search(page)
    samples: dict[str, float] = defaultdict(float)
    for name, value in _SAMPLE.findall(page):
        if name.startswith(_SUMMED):
            try:
                samples[name] += float(value)
            except ValueError:
                continue
    return Metrics(
        engine=config[1] if config else "",
        cache=dict(_LABEL.findall(config[2])) if config else {},
        samples=dict(samples),
        asleep=_ASLEEP.search(page) is not None,
    )


def read_version(page: bytes) -> Version:
    """`{"version": "0.32.0+cpu"}` → (0, 32, 0); empty where it does not say."""
    try:
        text = str(msgspec.json.decode(page, type=dict[str, object]).get("version", ""))
    except (msgspec.DecodeError, UnicodeDecodeError):
        return ()
    found = re.match(r"v?(\d+)\.(\d+)(?:\.(\d+))?", text)
    return tuple(int(part) for part in found.groups(default="0")) if found else ()


def read_tensor_parallel(page: bytes) -> int | None:
    """Of /server_info, which engines in development mode and SGLang have."""
    found = _RANKS.search(page.decode(errors="replace"))
    return int(found[1]) if found else None


def skew_s(date_header: str, sent_s: float, came_s: float) -> float | None:
    """Seconds that the clock behind a Date header is ahead; times are Unix seconds.

    The header has whole seconds, so less than about one and a half is no finding.
    """
    try:
        theirs = parsedate_to_datetime(date_header).timestamp()
    except (ValueError, TypeError):
        return None
    if theirs + 1 < sent_s:
        return theirs + 1 - sent_s
    return max(0.0, theirs - came_s)


def dates_about(now: datetime) -> tuple[str, ...]:
    """Yesterday, today and tomorrow in the spellings of chat templates."""
    days = [now + timedelta(days=shift) for shift in (-1, 0, 1)]
    return tuple(dict.fromkeys(day.strftime(form) for day in days for form in _DATE_FORMATS))


def version_text(version: Version) -> str:
    return ".".join(map(str, version)) if version else "of unknown version"
