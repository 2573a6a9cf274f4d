"""Refusals in vLLM's words and shapes."""

import json
from typing import Any


class ApiError(Exception):
    """An answer `{"error": {message, type, param, code}}` with HTTP status `code`."""

    def __init__(self, message: str, kind: str, param: str | None, code: int) -> None:
        super().__init__(message)
        self.message = message
        self.kind = kind
        self.param = param
        self.code = code

    def body(self) -> dict[str, Any]:
        error = {"message": self.message, "type": self.kind, "param": self.param, "code": self.code}
        return {"error": error}


def validation_error(kind: str, loc: str, msg: str, given: object, **extra: object) -> ApiError:
    """A field that does not have the shape the API wants; `given` is shown, large values by
    size."""
    shown = given if isinstance(given, str) else _shown(given)
    detail = {"type": kind, "loc": loc, "msg": msg, "input": shown, **extra}
    return ApiError(f"1 validation error:\n  {detail}", "Bad Request", loc, 400)


def missing(loc: str, given: object) -> ApiError:
    return validation_error("missing", loc, "Field required", given)


def invalid_json(body: bytes) -> ApiError:
    """For a body that is not JSON; says where, as the standard parser sees it."""
    position, reason = 0, "Expecting value"
    try:
        json.loads(body)
    except json.JSONDecodeError as error:
        position, reason = error.pos, error.msg
    except (UnicodeDecodeError, RecursionError) as error:
        reason = type(error).__name__
    return validation_error(
        "json_invalid", f"body.{position}", "JSON decode error", {}, ctx={"error": reason}
    )


def wrong_content_type() -> ApiError:
    message = "1 validation error:\n  Unsupported Media Type: Only 'application/json' is allowed"
    return ApiError(message, "Bad Request", None, 400)


def bad_value(name: str, reason: str, value: object) -> ApiError:
    """A value of the right type that cannot be served."""
    message = f"{reason} (parameter={name}, value={value})"
    return ApiError(message, "BadRequestError", name, 400)


def unknown_model(name: str, served: str) -> ApiError:
    message = f"The model `{name}` does not exist. Valid aliases: {served}."
    return ApiError(message, "NotFoundError", "model", 404)


def prompt_too_long(context_tokens: int) -> ApiError:
    at_least = context_tokens + 1
    return bad_value(
        "input_tokens",
        f"This model's maximum context length is {context_tokens} tokens. However, your prompt "
        f"contains at least {at_least} input tokens, which exceeds this limit even without any "
        "output tokens. Please reduce the length of the input prompt.",
        at_least,
    )


def total_too_long(context_tokens: int, prompt_tokens: int, output_tokens: int) -> ApiError:
    total = prompt_tokens + output_tokens
    return bad_value(
        "input_tokens",
        f"This model's maximum context length is {context_tokens} tokens. However, you requested "
        f"{output_tokens} output tokens and your prompt contains at least {prompt_tokens} input "
        f"tokens, for a total of at least {total} tokens. Please reduce the length of the input "
        "prompt or the number of requested output tokens.",
        prompt_tokens,
    )


def engine_dead() -> ApiError:
    message = "EngineCore encountered an issue. See stack trace (above) for the root cause."
    return ApiError(message, "InternalServerError", None, 500)


def _shown(value: object) -> str:
    if isinstance(value, (dict, list)):
        return f"<{type(value).__name__} of {len(value)} items>"
    return repr(value)
