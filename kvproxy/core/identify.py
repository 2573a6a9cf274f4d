"""Which conversation a turn belongs to, from ordered evidence the client gives on purpose.

Never a per-request id, never a credential, never text found inside the prompt. Without any evidence
the session is empty and the prefix match alone decides.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import msgspec
from xxhash import xxh3_128_hexdigest

from kvproxy.core.one_copy import one_copy
from kvproxy.core.spans import Span
from kvproxy.core.types import Identity

Headers = Mapping[str, str]

# Longest value that is taken as an id: keys are kept in memory for every live session.
_ID_LENGTH_MAX = 256


class HeaderRule(NamedTuple):
    """A header that names the session, and those beside it that name agent and parent."""

    session: str
    agent: str = ""
    parent: str = ""


# Client conventions in falling order of strength. Codex wrote session_id until 0.130.
HEADER_RULES = (
    HeaderRule(
        "x-claude-code-session-id", "x-claude-code-agent-id", "x-claude-code-parent-agent-id"
    ),
    HeaderRule("thread-id", "", "x-codex-parent-thread-id"),
    HeaderRule("session-id"),
    HeaderRule("session_id"),
    HeaderRule("x-session-id", "", "x-parent-session-id"),
    HeaderRule("x-session-affinity", "", "x-parent-session-id"),
    HeaderRule("x-smg-routing-key"),
)


def rules_for(session_headers: Sequence[str]) -> tuple[HeaderRule, ...]:
    """Rules for configured header names: a known name keeps its agent and parent companions."""
    known = {rule.session: rule for rule in HEADER_RULES}
    return tuple(known.get(name.lower(), HeaderRule(name.lower())) for name in session_headers)


def tenant_of(headers: Headers) -> str:
    """Whose request it is, as a digest of the credential it carries; "" for one without."""
    credential = headers.get("authorization", "") or headers.get("x-api-key", "")
    return one_copy(xxh3_128_hexdigest(credential.encode())) if credential else ""


class _Metadata(msgspec.Struct):
    user_id: str = ""


class _UserId(msgspec.Struct):
    session_id: str = ""


_METADATA = msgspec.json.Decoder(_Metadata)
_USER_ID = msgspec.json.Decoder(_UserId)
_TEXT = msgspec.json.Decoder(str)


def identify(
    tenant: str,
    model: str,
    headers: Headers,
    members: Mapping[str, Span],
    rules: Sequence[HeaderRule] = HEADER_RULES,
) -> Identity:
    """`headers` has lower-case names; `members` are the body's spans (empty when unparsed)."""
    for name, agent, parent in rules:
        if name in headers and 0 < len(headers[name]) <= _ID_LENGTH_MAX:
            agent = headers.get(agent, "")[:_ID_LENGTH_MAX] if agent else ""
            parent = headers.get(parent, "")[:_ID_LENGTH_MAX] if parent else ""
            return Identity(tenant, model, headers[name], agent, parent, one_copy(f"header:{name}"))
    if not members:
        return Identity(tenant, model, "")
    for name, find in _BODY_EVIDENCE:
        session = find(members)
        if session and len(session) <= _ID_LENGTH_MAX:
            return Identity(tenant, model, session, evidence=one_copy(f"body:{name}"))
    return Identity(tenant, model, "")


def _claude_session(members: Mapping[str, Span]) -> str:
    """The session part of Anthropic's metadata.user_id: a JSON string, formerly a joined one."""
    if "metadata" not in members:
        return ""
    try:
        user_id = _METADATA.decode(members["metadata"].raw).user_id
        if user_id.startswith("{"):
            return _USER_ID.decode(user_id).session_id
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return ""
    return user_id.rpartition("_session_")[2] if "_session_" in user_id else ""


def _text(members: Mapping[str, Span], name: str) -> str:
    try:
        return _TEXT.decode(members[name].raw) if name in members else ""
    except (msgspec.DecodeError, UnicodeDecodeError):
        return ""


_BODY_EVIDENCE = (
    ("metadata.user_id", _claude_session),
    ("session_id", lambda members: _text(members, "session_id")),
    ("previous_response_id", lambda members: _text(members, "previous_response_id")),
    ("prompt_cache_key", lambda members: _text(members, "prompt_cache_key")),
)
