"""The two bodies of a disaggregated request, made from the one that the client sent.

The prefill leg is kvproxy's own request: members of the client's body, their bytes as they are, but
for those that say how long and in what form to answer. The decode leg is the client's body with a
member set at its end. A body that cannot be split so is served as a plain request.
"""

from collections.abc import Mapping

import orjson

from kvproxy.core.disagg.connectors import PARAMS, Fields
from kvproxy.core.spans import Span, object_spans

# How much is generated, by path; the first is always set, the others where the client set them.
_LENGTHS = {
    "/v1/chat/completions": ("max_tokens", "max_completion_tokens"),
    "/v1/completions": ("max_tokens",),
    "/v1/messages": ("max_tokens",),
    "/v1/responses": ("max_output_tokens",),
}
# What only goes with a stream or a longer answer.
_DROPPED = ("stream_options", "min_tokens")
# Answers that are not one text from one prompt, are kept by the engine, or are the client's own
# disaggregation.
_WHOLE = ("prompt_logprobs", "echo", "background", "previous_response_id", "bootstrap_room", PARAMS)
_EMPTY = (b"null", b"false", b"0", b"[]", b'""')


def splittable(path: str, members: Mapping[str, Span]) -> bool:
    """Whether a body with these members can be computed here and answered there."""
    if path not in _LENGTHS or not members:
        return False
    one = "n" not in members or members["n"].raw in (b"1", b"null")
    prompts = members["prompt"].raw[:1] if "prompt" in members else b'"'
    plain = all(members[name].raw in _EMPTY for name in _WHOLE if name in members)
    return one and plain and prompts == b'"'


def prefill_body(path: str, body: bytes, fields: Fields) -> bytes | None:
    """The leg that computes the prompt and generates one token; None for a body whose layout
    cannot be followed."""
    members = object_spans(body)
    if members is None or not splittable(path, members):
        return None
    always, *where_set = _LENGTHS[path]
    ours: dict[str, object] = {"stream": False, always: 1}
    ours |= {name: 1 for name in where_set if name in members}
    ours |= fields
    kept = [
        b'"%b":%b' % (name.encode(), span.raw)
        for name, span in members.items()
        if name not in ours and name not in _DROPPED
    ]
    return b"{" + b",".join([*kept, orjson.dumps(ours)[1:-1]]) + b"}"


def with_fields(body: bytes, fields: Fields) -> bytes:
    """`body`, a JSON object without these members, with them at its end; nothing else moves."""
    if not fields:
        return body
    end = body.rindex(b"}")
    last = body[:end].rstrip()[-1:]
    comma = b"" if last == b"{" else b","
    return b"".join((body[:end], comma, orjson.dumps(fields)[1:-1], body[end:]))
