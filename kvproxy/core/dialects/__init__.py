"""What kvproxy knows of each request dialect: one module a dialect, one interface."""

from kvproxy.core.dialects.base import Dialect
from kvproxy.core.dialects.chat import Chat
from kvproxy.core.dialects.completions import Completions

_DIALECTS: dict[str, Dialect] = {
    "/v1/chat/completions": Chat(),
    "/v1/completions": Completions(),
}


def dialect_of(method: str, path: str) -> Dialect | None:
    """None for what is passed through without being understood."""
    return _DIALECTS.get(path) if method == "POST" else None
