import msgspec
import pytest

from kvproxy.core.unprinted import Trait, Unprinted, conversation, value_trait

THINKING = value_trait("chat_template_kwargs", b'{"enable_thinking":false}')


def told(unprinted: Unprinted, replica: str, **printed: bool) -> None:
    for trait, is_printed in printed.items():
        unprinted.told(replica, trait, printed=is_printed)


def met(*traits: str) -> Unprinted:
    unprinted = Unprinted(asking=True)
    unprinted.wanted.clear()
    assert all(unprinted.prints(trait) for trait in traits)
    return unprinted


def test_what_was_not_asked_about_counts() -> None:
    woken = list[None]()
    unprinted = Unprinted(asking=True)
    unprinted.wake = lambda: woken.append(None)
    assert unprinted.prints(Trait.NAMES)
    assert unprinted.prints(THINKING)
    assert unprinted.prints(THINKING)
    assert unprinted.unasked("a") == [*Trait, THINKING]
    assert len(woken) == 1


def test_what_no_template_prints_counts_no_more_and_what_is_read_is_of_another_edition() -> None:
    unprinted = met(Trait.NAMES, Trait.IDS)
    told(unprinted, "a", names=False, ids=True)
    unprinted.settle(["a"])
    assert not unprinted.prints(Trait.NAMES)
    assert unprinted.prints(Trait.IDS)
    assert unprinted.edition == 1
    unprinted.settle(["a"])
    assert unprinted.edition == 1


def test_one_template_that_prints_it_is_enough() -> None:
    unprinted = met(Trait.NAMES)
    told(unprinted, "a", names=False)
    told(unprinted, "b", names=True)
    unprinted.settle(["a", "b"])
    assert unprinted.prints(Trait.NAMES)
    # Gone, it is one no more.
    unprinted.settle(["a"])
    assert not unprinted.prints(Trait.NAMES)


def test_while_a_replica_that_came_was_not_asked_all_stays_as_it_was() -> None:
    unprinted = met(Trait.NAMES, Trait.IDS)
    told(unprinted, "a", names=False)
    unprinted.settle(["a", "b"])
    assert unprinted.prints(Trait.NAMES)
    told(unprinted, "b", names=False)
    unprinted.settle(["a", "b"])
    unprinted.settle(["a", "b", "c"])
    assert not unprinted.prints(Trait.NAMES)
    assert unprinted.unasked("c") == [Trait.NAMES, Trait.IDS]
    told(unprinted, "c", names=True)
    unprinted.settle(["a", "b", "c"])
    assert unprinted.prints(Trait.NAMES)
    assert unprinted.edition == 2


def test_a_replica_that_was_away_is_asked_again() -> None:
    unprinted = met(Trait.NAMES)
    told(unprinted, "a", names=False)
    unprinted.settle(["a"])
    unprinted.settle([])
    assert unprinted.unasked("a") == [Trait.NAMES]
    # Nobody serves, so nobody prints it; nor does anybody say so.
    assert unprinted.prints(Trait.NAMES)


def effort(number: int) -> str:
    return value_trait("reasoning_effort", b"%d" % number)


def full(*, printed: bool) -> Unprinted:
    """Of values of one tenant."""
    unprinted = Unprinted(asking=True)
    for number in range(100):
        assert unprinted.prints_value(effort(number), "hostile")
    assert len(unprinted.wanted) == 64
    look(unprinted, printed=printed)
    return unprinted


def look(unprinted: Unprinted, *, printed: bool) -> None:
    for trait in unprinted.unasked("a"):
        unprinted.told("a", trait, printed=printed)
    unprinted.settle(["a"])


def test_what_clients_can_make_be_asked_is_bounded() -> None:
    full(printed=True)
    unprinted = Unprinted(asking=True)
    long = value_trait("chat_template_kwargs", b'"%b"' % (b"x" * 600))
    assert unprinted.prints_value(long, "t")
    assert long not in unprinted.wanted
    assert not Unprinted().wanted
    assert Unprinted().prints(Trait.IDS)
    assert not Unprinted().wanted


def test_one_tenants_values_keep_no_others_out() -> None:
    """One a look takes the place of one that is printed, whoever else waits for as long."""
    unprinted = full(printed=True)
    for number in range(1000, 2000):
        unprinted.prints_value(effort(number), "hostile")
        unprinted.prints_value(effort(number), f"hostile{number}")
        unprinted.prints_value(THINKING, "t")
    assert unprinted.unasked("a") == [effort(99)], "it waited since before"
    # As many tenants as may wait are ahead of this one by now: it comes back.
    for _ in range(100):
        unprinted.prints_value(THINKING, "t")
        look(unprinted, printed=False)
    assert not unprinted.prints_value(THINKING, "t")
    assert len(unprinted.wanted) == 64
    assert set(Trait) <= set(unprinted.wanted)


def test_values_that_are_not_printed_and_not_used_make_room_in_time() -> None:
    unprinted = full(printed=False)
    assert len(unprinted.traits) == 64
    used = effort(7)
    for _ in range(2 * 720 + 10):
        unprinted.prints_value(THINKING, "t")
        assert not unprinted.prints_value(used, "u"), "it counts no more all the time"
        look(unprinted, printed=False)
    assert not unprinted.prints_value(THINKING, "t")
    assert not unprinted.prints_value(used, "u")
    assert len(unprinted.wanted) < 10
    assert set(Trait) <= set(unprinted.wanted)
    edition = unprinted.edition
    for _ in range(2000):
        look(unprinted, printed=False)
    assert unprinted.edition == edition, "nobody waits"


@pytest.mark.parametrize("trait", [*Trait, THINKING, value_trait("reasoning_effort", b'"high"')])
def test_the_two_conversations_differ_in_that_alone(trait: str) -> None:
    plain, asked = conversation("m"), conversation("m", trait)
    assert plain is not None
    assert asked is not None
    without, having = msgspec.json.decode(plain), msgspec.json.decode(asked)
    assert without != having
    assert without["model"] == having["model"] == "m"
    value = trait.partition("\0")[2]
    if value:
        arguments = having.pop("chat_template_kwargs")
        assert without == having
        high = {"reasoning_effort": "high", "enable_thinking": True}
        assert arguments == ({"enable_thinking": False} if trait == THINKING else high)
    else:
        keys = {"name", "id", "tool_call_id", "reasoning", "reasoning_content", "role"}
        assert differing(without, having) <= keys


def differing(one: object, other: object, key: str = "") -> set[str]:
    """Members that are not equal, innermost ones alone."""
    if isinstance(one, dict) and isinstance(other, dict):
        return set().union(*(differing(one.get(k), other.get(k), k) for k in one | other))
    if isinstance(one, list) and isinstance(other, list):
        return set().union(*map(differing, one, other))
    return set() if one == other else {key}


def test_arguments_that_are_no_object_are_not_asked_about() -> None:
    assert conversation("m", value_trait("chat_template_kwargs", b"3")) is None


def test_values_are_compared_where_one_answer_of_each_round_has_thoughts() -> None:
    """A value may decide about thoughts alone, or about answers that have none."""
    asked = conversation("m", THINKING, thinks=True)
    assert asked is not None
    answers = [
        "reasoning" in message
        for message in msgspec.json.decode(asked)["messages"]
        if message["role"] == "assistant"
    ]
    assert answers == [True, False, True]
