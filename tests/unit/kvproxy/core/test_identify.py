import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvproxy.core.identify import HEADER_RULES, HeaderRule, identify, rules_for
from kvproxy.core.spans import object_spans
from kvproxy.core.types import Identity
from tests.support.json_layouts import json_values

HEADERS = [rule.session for rule in HEADER_RULES]


def identified(headers: dict[str, str] | None = None, body: Any = None) -> Identity:
    members = object_spans(json.dumps(body or {}).encode())
    assert members is not None
    return identify("t", "m", headers or {}, members)


@pytest.mark.parametrize("name", HEADERS)
def test_each_header_names_the_session(name: str) -> None:
    identity = identified({name: "s1", "x-other": "y"}, {"prompt_cache_key": "weak"})
    assert identity == Identity("t", "m", "s1", evidence=f"header:{name}")


def test_stronger_headers_win() -> None:
    for index, name in enumerate(HEADERS):
        headers = {weaker: f"by {weaker}" for weaker in HEADERS[index:]}
        assert identified(headers).session == f"by {name}"


def test_agents_and_their_parents() -> None:
    identity = identified(
        {
            "x-claude-code-session-id": "s",
            "x-claude-code-agent-id": "a",
            "x-claude-code-parent-agent-id": "p",
        }
    )
    assert (identity.session, identity.agent, identity.parent) == ("s", "a", "p")
    assert identity.key == ("t", "m", "s", "a")
    assert identified({"x-claude-code-agent-id": "a"}).session == ""


def test_children_of_threads_name_their_parent() -> None:
    assert identified({"thread-id": "s", "x-codex-parent-thread-id": "p"}).parent == "p"
    assert identified({"x-session-id": "s", "x-parent-session-id": "p"}).parent == "p"


BODIES = [
    ({"metadata": {"user_id": json.dumps({"session_id": "s1"})}}, "metadata.user_id"),
    ({"metadata": {"user_id": "user_ab_account_cd_session_s1"}}, "metadata.user_id"),
    ({"session_id": "s1"}, "session_id"),
    ({"previous_response_id": "s1"}, "previous_response_id"),
    ({"prompt_cache_key": "s1"}, "prompt_cache_key"),
]


@pytest.mark.parametrize(("body", "evidence"), BODIES)
def test_each_evidence_in_the_body(body: Any, evidence: str) -> None:
    assert identified(body=body) == Identity("t", "m", "s1", evidence=f"body:{evidence}")


def test_stronger_evidence_in_the_body_wins() -> None:
    body = {"prompt_cache_key": "d", "previous_response_id": "c", "session_id": "b"}
    assert identified(body=body).session == "b"
    assert identified(body=body | {"metadata": {"user_id": "x_session_a"}}).session == "a"
    assert identified({"x-smg-routing-key": "h"}, body).session == "h"


def test_no_evidence_is_an_empty_session() -> None:
    assert identified({"authorization": "Bearer secret", "x-request-id": "1"}, {"user": "u"}) == (
        Identity("t", "m", "")
    )


@pytest.mark.parametrize(
    "body",
    [
        {"metadata": None},
        {"metadata": "x"},
        {"metadata": {"user_id": None}},
        {"metadata": {"user_id": 7}},
        {"metadata": {"user_id": "somebody"}},
        {"metadata": {"user_id": "{not json"}},
        {"metadata": {"user_id": '{"session_id": 7}'}},
        {"metadata": {"user_id": '{"session_id": ["s"]}'}},
        {"metadata": {"user_id": "[" * 100_000}},
        {"session_id": 7},
        {"session_id": None},
        {"prompt_cache_key": ["a"]},
        {"prompt_cache_key": ""},
        {"previous_response_id": {"id": "x"}},
    ],
)
def test_values_of_other_types_are_no_evidence(body: Any) -> None:
    assert identified(body=body).session == ""


@pytest.mark.parametrize(
    "text", [b'{"session_id":"\xff"}', b'{"metadata":{"user_id":"\xff_session_x"}}']
)
def test_bytes_that_are_no_text_are_no_evidence(text: bytes) -> None:
    members = object_spans(text)
    assert members is not None
    assert identify("t", "m", {}, members).session == ""


def test_hostile_lengths() -> None:
    longest, longer = "s" * 256, "s" * 257
    assert identified({"x-session-id": longest}).session == longest
    assert identified({"x-session-id": longer}).session == ""
    assert identified({"x-session-id": longer, "session-id": "ok"}).session == "ok"
    assert identified(body={"session_id": longer, "prompt_cache_key": "ok"}).session == "ok"
    agents = {"x-claude-code-agent-id": longer, "x-claude-code-parent-agent-id": longer}
    identity = identified({"x-claude-code-session-id": "s"} | agents)
    assert len(identity.agent) == len(identity.parent) == 256


NAMES = st.sampled_from(["metadata", "session_id", "prompt_cache_key", "previous_response_id"])


@given(st.dictionaries(NAMES, json_values()))
def test_any_body_is_identified(body: dict[str, Any]) -> None:
    identity = identified(body=body)
    assert len(identity.session) <= 256
    assert (identity.evidence == "none") == (identity.session == "")


def test_configured_headers_keep_their_companions() -> None:
    rules = rules_for(["X-My-Session", "Thread-Id"])
    assert rules == (HeaderRule("x-my-session"), HEADER_RULES[1])
    headers = {"x-session-id": "no", "thread-id": "t", "x-my-session": "mine"}
    assert identify("", "m", headers, {}, rules).session == "mine"
    assert identify("", "m", {"x-session-id": "no"}, {}, rules).session == ""
