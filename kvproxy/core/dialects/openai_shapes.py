"""Errors as OpenAI's clients expect them: chat and completions end a stream with a mark of its own,
/v1/responses sends typed events and no mark."""

import orjson

from kvproxy.core.errors import ProxyError, openai_body


class OpenAiErrors:
    def error_body(self, error: ProxyError) -> bytes:
        return openai_body(error)

    def stream_error(self, error: ProxyError) -> bytes:
        """One error event and the end mark, as vLLM writes them when its engine dies."""
        return b"data: " + openai_body(error) + b"\n\ndata: [DONE]\n\n"


class ResponsesErrors(OpenAiErrors):
    def stream_error(self, error: ProxyError) -> bytes:
        """The `error` event of the API; `error` inside it is what the Python client raises on."""
        inner = orjson.loads(openai_body(error))
        event = {
            "type": "error",
            "code": error.code,
            "message": error.message,
            "param": error.param,
            "sequence_number": 0,
        }
        return b"event: error\ndata: " + orjson.dumps(event | inner) + b"\n\n"
