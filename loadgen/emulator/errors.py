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

    def anthropic_body(self) -> dict[str, Any]:
        """What /v1/messages answers; a body that it cannot read it refuses as all others do."""
        if self.kind == _UNREADABLE:
            return self.body()
        return {"type": "error", "error": {"type": self.kind, "message": self.message}}


_UNREADABLE = "Bad Request"


def validation_error(what: tuple[str, str], loc: str, given: object, **extra: object) -> ApiError:
    """A field that does not have the shape the API wants: `what` are code and text; `given` is
    shown, large values by size."""
    shown = given if isinstance(given, str) else _shown(given)
    detail = {"type": what[0], "loc": loc, "msg": what[1], "input": shown, **extra}
    return ApiError(f"1 validation error:\n  {detail}", _UNREADABLE, loc, 400)


def missing(loc: str, given: object) -> ApiError:
    return validation_error(("missing", "Field required"), loc, given)


def not_one_of(names: tuple[str, ...], loc: str, given: object) -> ApiError:
    """A word that is none of the known ones."""
    quoted = [f"'{name}'" for name in names]
    expected = f"{', '.join(quoted[:-1])} or {quoted[-1]}"
    what = ("literal_error", f"Input should be {expected}")
    return validation_error(what, loc, given, ctx={"expected": expected})


def invalid_json(body: bytes) -> ApiError:
    """For a body that is not JSON; says where, as the standard parser sees it."""
    position, reason = 0, "Expecting value"
    try:
        json.loads(body)
    except json.JSONDecodeError as error:
        position, reason = error.pos, error.msg
    except (UnicodeDecodeError, RecursionError) as error:
        reason = type(error).__name__
    what = ("json_invalid", "JSON decode error")
    return validation_error(what, f"body.{position}", {}, ctx={"error": reason})


def wrong_content_type() -> ApiError:
    message = "1 validation error:\n  Unsupported Media Type: Only 'application/json' is allowed"
    return ApiError(message, _UNREADABLE, None, 400)


def refused(reason: str, name: str | None = None, value: object = None) -> ApiError:
    """A value of the right type that cannot be served."""
    named = [f"parameter={name}"] if name is not None else []
    named += [f"value={value}"] if value is not None else []
    message = f"{reason} ({', '.join(named)})" if named else reason
    return ApiError(message, "BadRequestError", name, 400)


def unknown_model(name: str, served: str) -> ApiError:
    message = f"The model `{name}` does not exist. Valid aliases: {served}."
    return ApiError(message, "NotFoundError", "model", 404)


def unknown_response(response_id: str) -> ApiError:
    message = f"Response with id '{response_id}' not found."
    return ApiError(message, "invalid_request_error", "response_id", 404)


def scale_out_disabled() -> ApiError:
    message = (
        "Scale-out endpoints are disabled. Restart vllm serve with --enable-scale-out to enable "
        "them."
    )
    return ApiError(message, "PermissionDeniedError", None, 403)


def prompt_too_long(context_tokens: int) -> ApiError:
    at_least = context_tokens + 1
    return refused(
        f"This model's maximum context length is {context_tokens} tokens. However, your prompt "
        f"contains at least {at_least} input tokens, which exceeds this limit even without any "
        "output tokens. Please reduce the length of the input prompt.",
        "input_tokens",
        at_least,
    )


def output_too_long(name: str, wanted: int, context_tokens: int) -> ApiError:
    """`name` is the field that asks for `wanted` tokens."""
    return refused(
        f"{name}={wanted} cannot be greater than max_model_len={context_tokens}. "
        "Please request fewer output tokens.",
        name,
        wanted,
    )


def engine_dead() -> ApiError:
    message = "EngineCore encountered an issue. See stack trace (above) for the root cause."
    return ApiError(message, "InternalServerError", None, 500)


def _shown(value: object) -> str:
    if isinstance(value, (dict, list)):
        return f"<{type(value).__name__} of {len(value)} items>"
    return repr(value)
