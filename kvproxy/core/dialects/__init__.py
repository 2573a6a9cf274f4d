"""What kvproxy knows of each request dialect: one module a dialect, one interface."""

from kvproxy.core.dialects.anthropic_shapes import AnthropicErrors
from kvproxy.core.dialects.base import Dialect, ErrorShape
from kvproxy.core.dialects.chat import Chat
from kvproxy.core.dialects.completions import Completions
from kvproxy.core.dialects.messages import Messages
from kvproxy.core.dialects.openai_shapes import OpenAiErrors
from kvproxy.core.dialects.responses import Responses

_DIALECTS: dict[str, Dialect] = {
    "/v1/chat/completions": Chat(),
    "/v1/completions": Completions(),
    "/v1/messages": Messages(),
    "/v1/responses": Responses(),
}
BY_NAME = {dialect.name: dialect for dialect in _DIALECTS.values()}
_ANTHROPIC = AnthropicErrors()
_OPENAI = OpenAiErrors()


def dialect_of(method: str, path: str) -> Dialect | None:
    """None for what is passed through without being understood."""
    return _DIALECTS.get(path) if method == "POST" else None


def errors_of(path: str) -> ErrorShape:
    """How the client of a request is told of an error, understood or not."""
    anthropic = path == "/v1/messages" or path.startswith("/v1/messages/")
    return _ANTHROPIC if anthropic else _DIALECTS.get(path, _OPENAI)
