from kvproxy.core.disagg.grants import Grant, Grants

FIELDS = {"kv_transfer_params": {"do_remote_prefill": True}}


def test_a_grant_is_taken_once() -> None:
    grants = Grants()
    grants.put("id-1", Grant(FIELDS, 10.0, 7))
    assert grants.waiting("id-1")
    assert not grants.waiting("id-2")
    assert grants.take("id-1", 7, 11.0) == Grant(FIELDS, 10.0, 7)
    assert not grants.waiting("id-1")
    assert grants.take("id-1", 7, 11.0) is None


def test_what_an_engine_may_have_let_go_is_not_used() -> None:
    grants = Grants()
    grants.put("id-1", Grant(FIELDS, 10.0, 7))
    assert grants.take("id-1", 7, 30.5) is None


def test_they_are_bounded_and_the_oldest_go() -> None:
    grants = Grants()
    for number in range(2000):
        grants.put(str(number), Grant(FIELDS, 0.0, 7))
    assert not grants.waiting("975")
    assert grants.waiting("976")
    assert grants.waiting("1999")


def test_a_request_id_that_comes_with_another_prompt_gets_nothing() -> None:
    grants = Grants()
    grants.put("id-1", Grant(FIELDS, 10.0, 7))
    assert grants.take("id-1", 8, 11.0) is None
    assert not grants.waiting("id-1")
