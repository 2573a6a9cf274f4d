"""Settings whose bounds are full after some hundred requests: what grows later is no cache."""

from typing import Any

SMALL: dict[str, dict[str, Any]] = {
    "explain": {"requests_max_bytes": 2**17, "sessions_max_bytes": 2**17},
    "blocks": {"heads_max_bytes": 2**17, "responses_max_bytes": 2**17},
    "identify": {"max_sessions": 100},
    "index": {"anchors_max": 500, "hbm_tokens_default": 20_000},
}
