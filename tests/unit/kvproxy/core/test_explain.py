import json

from kvproxy.core.explain import describe
from kvproxy.core.types import Identity
from tests.support.makers import make_chain, make_router


def test_a_decision_says_what_was_known_and_what_it_cost() -> None:
    router = make_router(1)
    identity = Identity("", "m", "s1", evidence="header:x-session-id")
    placement = router.place(identity, make_chain("x" * 4000), 0.0)
    described = json.loads(describe(placement))
    assert described["policy"] == "seconds"
    assert described["replica"] == "r0"
    assert described["evidence"] == "header:x-session-id"
    assert described["predicted_cached_tokens"] == 0
    assert described["prompt_tokens"] == 1004
    assert described["terms"]["prefill_s"] == 0.1004
    assert described["queue_s"] == described["terms"]["queue_s"] == 0.0


def test_no_text_of_the_client_but_the_evidence_is_told() -> None:
    router = make_router(1)
    identity = Identity("tenant", "model name", "session name", "agent", "parent", "none")
    described = describe(router.place(identity, make_chain("prompt"), 0.0)).decode()
    assert not any(word in described for word in ("tenant", "session name", "agent", 'prompt"'))
