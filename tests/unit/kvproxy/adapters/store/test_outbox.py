from random import Random

from kvproxy.adapters.store.outbox import Outbox


def test_the_latest_of_each_leaves_once_and_the_oldest_first() -> None:
    box: Outbox[str, int] = Outbox(10)
    for key, value in [("a", 1), ("b", 2), ("a", 3)]:
        box.put(key, value)
    assert box.take(1) == [("b", 2)]
    assert box.take(9) == [("a", 3)]
    assert box.take(9) == []


def test_what_was_not_delivered_returns_before_what_is_newer() -> None:
    box: Outbox[str, int] = Outbox(10)
    for key, value in [("a", 1), ("b", 2)]:
        box.put(key, value)
    taken = box.take(2)
    box.put("a", 9)
    box.put("c", 3)
    box.give_back(taken)
    assert box.take(9) == [("b", 2), ("a", 9), ("c", 3)]
    assert box.dropped == 0


def test_bounded() -> None:
    box, random = Outbox[int, int](5), Random(2)
    put = dropped = taken = 0
    for _ in range(2000):
        if random.random() < 0.7:
            put += 1
            box.put(put, 0)
        else:
            batch = box.take(random.randrange(7))
            if random.random() < 0.5:
                box.give_back(batch)
            else:
                taken += len(batch)
        assert len(box) <= 5
    dropped = box.dropped
    assert put == dropped + taken + len(box)
