"""Every way a request can fail through kvproxy itself, as one table.

A ProxyError is the world's fault (client, replica, load); our own bugs are asserts. The code is
stable and goes to clients and metrics; the body is written in the dialect the client speaks.
"""

from dataclasses import dataclass

import orjson


@dataclass(frozen=True, slots=True)
class ErrorKind:
    """One row: HTTP status, the OpenAI `type`, the Anthropic `type`."""

    status: int
    openai: str
    anthropic: str


ERRORS: dict[str, ErrorKind] = {
    "invalid_json": ErrorKind(400, "Bad Request", "invalid_request_error"),
    "invalid_body": ErrorKind(400, "Bad Request", "invalid_request_error"),
    "unsupported_media_type": ErrorKind(400, "Bad Request", "invalid_request_error"),
    "bad_request": ErrorKind(400, "Bad Request", "invalid_request_error"),
    "head_too_large": ErrorKind(431, "RequestHeaderFieldsTooLarge", "invalid_request_error"),
    "request_timeout": ErrorKind(408, "RequestTimeout", "invalid_request_error"),
    "body_too_large": ErrorKind(413, "RequestEntityTooLarge", "request_too_large"),
    "model_not_found": ErrorKind(404, "NotFoundError", "not_found_error"),
    "response_not_found": ErrorKind(404, "NotFoundError", "not_found_error"),
    "not_found": ErrorKind(404, "NotFoundError", "not_found_error"),
    "conflict": ErrorKind(409, "Conflict", "invalid_request_error"),
    "unauthorized": ErrorKind(401, "Unauthorized", "authentication_error"),
    "forbidden": ErrorKind(403, "Forbidden", "permission_error"),
    "rate_limited": ErrorKind(429, "TooManyRequests", "rate_limit_error"),
    "overloaded": ErrorKind(429, "TooManyRequests", "rate_limit_error"),
    "no_replica": ErrorKind(503, "ServiceUnavailableError", "overloaded_error"),
    "draining": ErrorKind(503, "ServiceUnavailableError", "overloaded_error"),
    "upstream_unreachable": ErrorKind(502, "BadGatewayError", "api_error"),
    "upstream_lost": ErrorKind(502, "BadGatewayError", "api_error"),
    "upstream_declined": ErrorKind(503, "ServiceUnavailableError", "overloaded_error"),
    "upstream_timeout": ErrorKind(504, "GatewayTimeoutError", "api_error"),
    "upstream_broke": ErrorKind(502, "BadGatewayError", "api_error"),
    "upstream_refused": ErrorKind(502, "BadGatewayError", "api_error"),
    "internal": ErrorKind(500, "InternalServerError", "api_error"),
}


# What somebody's own request is refused for, by us or (refused) by an engine; "overloaded" is ours.
CLIENTS_OWN = frozenset(code for code, kind in ERRORS.items() if kind.status < 500)
CLIENTS_OWN = (CLIENTS_OWN | {"refused"}) - {"overloaded"}

# Why a request that was lost on a second replica is given up while others may be well.
TWICE_LOST = " It was the second: what may be the end of engines is not shown to a third."


class ProxyError(Exception):
    """A failure with a stable `code` (a row of ERRORS), a message that says what to do, and
    optionally `param` (the field at fault), `retry_after_s` (seconds, sent as Retry-After) and
    `body` (an engine's own words, sent in place of ours)."""

    def __init__(
        self,
        code: str,
        message: str,
        *,
        param: str | None = None,
        retry_after_s: float | None = None,
        body: bytes = b"",
    ) -> None:
        assert code in ERRORS, f"unknown error code {code!r}"
        super().__init__(message)
        self.code = code
        self.message = message
        self.param = param
        self.retry_after_s = retry_after_s
        self.body = body

    @property
    def status(self) -> int:
        return ERRORS[self.code].status

    def anew(self) -> "ProxyError":
        """The same failure, raised nowhere yet. What keeps an error raises this: an error that was
        raised refers to all that was going on there, which may refer to who keeps it; then a
        request, its body and its connection stay until the collector comes."""
        return ProxyError(
            self.code,
            self.message,
            param=self.param,
            retry_after_s=self.retry_after_s,
            body=self.body,
        )


def openai_body(error: ProxyError) -> bytes:
    """vLLM's envelope: `code` repeats the HTTP status, as its clients expect."""
    inner = {
        "message": error.message,
        "type": ERRORS[error.code].openai,
        "param": error.param,
        "code": error.status,
    }
    return error.body or orjson.dumps({"error": inner})


def anthropic_body(error: ProxyError) -> bytes:
    inner = {"type": ERRORS[error.code].anthropic, "message": error.message}
    return error.body or orjson.dumps({"type": "error", "error": inner})
