from kvproxy.core.canonical import Canonicaliser, Order, Whose
from kvproxy.core.identify import identify, tenant_of
from kvproxy.core.one_copy import one_copy
from kvproxy.core.representatives import Representatives


def test_equal_texts_become_one() -> None:
    made = [bytes(range(97, 101)).decode() for _ in range(2)]
    assert made[0] is not made[1]
    assert one_copy(made[0]) is one_copy(made[1]) == "abcd"


def test_what_conversations_keep_is_one_copy() -> None:
    canon, headers = Canonicaliser(Order.SORTED, Representatives(0)), {"session-id": "s"}
    assert tenant_of({"authorization": "Bearer k"}) is tenant_of({"authorization": "Bearer k"})
    assert canon.scope("chat", Whose("t")) is canon.scope("chat", Whose("t"))
    assert canon.scope("chat", Whose("t")) != canon.scope("chat", Whose("u"))
    evidence = [identify("t", "m", headers, {}).evidence for _ in range(2)]
    assert evidence[0] is evidence[1] == "header:session-id"


def test_it_forgets() -> None:
    for number in range(5000):
        one_copy(f"text {number}")
    assert one_copy.cache_info().currsize <= 2048
