"""A proxy that allows for engines on a machine of unknown load: none is ejected for being slow."""

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any

from tests.support.proxies import Running, proxied

WITHIN_S = 60.0


def patient(urls: Sequence[str], **sections: Any) -> AbstractAsyncContextManager[Running]:
    """As proxied()."""
    patience: dict[str, dict[str, Any]] = {
        "probe": {"timeout_s": WITHIN_S, "stall_s": 300.0},
        "upstream": {"connect_timeout_s": WITHIN_S},
        "events": {"replay_timeout_s": WITHIN_S},
        "lmcache": {"timeout_s": WITHIN_S},
    }
    merged = {
        name: patience.get(name, {}) | given if isinstance(given, dict) else given
        for name, given in sections.items()
    }
    return proxied(urls, **(patience | merged))
