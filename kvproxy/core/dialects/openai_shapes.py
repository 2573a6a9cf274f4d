"""Error bodies and stream errors of the OpenAI dialects (chat, completions)."""

from kvproxy.core.errors import ProxyError, openai_body


def stream_error(error: ProxyError) -> bytes:
    """One error event and the end mark, as vLLM writes them when its engine dies mid-stream."""
    return b"data: " + openai_body(error) + b"\n\ndata: [DONE]\n\n"
