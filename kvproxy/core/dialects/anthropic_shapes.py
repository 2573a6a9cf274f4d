"""Errors as Anthropic's clients expect them; also those of /v1/messages/count_tokens."""

from kvproxy.core.errors import ProxyError, anthropic_body


class AnthropicErrors:
    def error_body(self, error: ProxyError) -> bytes:
        return anthropic_body(error)

    def stream_error(self, error: ProxyError) -> bytes:
        """The event that ends a message stream early; there is no end mark."""
        return b"event: error\ndata: " + anthropic_body(error) + b"\n\n"
