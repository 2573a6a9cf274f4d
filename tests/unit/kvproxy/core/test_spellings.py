"""One process decides what was first; workers that guessed wrong read again."""

import json

from kvproxy.core.canonical import Canonicaliser, Order
from kvproxy.core.dialects.chat import Chat
from kvproxy.core.representatives import Representatives
from kvproxy.core.spellings import (
    FROZEN,
    SPELLING,
    Claims,
    SharedFrozen,
    SharedRepresentatives,
    Spellings,
)
from kvproxy.core.turn import TurnReader, apply
from kvproxy.core.volatile import Action, Rule, Volatile, Where
from tests.support.makers import make_reader


class Worker:
    def __init__(self, common: Spellings, rules: tuple[Rule, ...] = ()) -> None:
        self.common = common
        self.claims = Claims(2**20)
        kept, frozen = SharedRepresentatives(self.claims), SharedFrozen(self.claims)
        canon = Canonicaliser(Order.FIRST_SEEN, kept, Volatile(rules, frozen))
        self.reader = TurnReader(canon, 64, 100)
        self.again = 0

    def forwards(self, body: bytes, session: str = "s") -> bytes:
        turn = self.reader.read(Chat(), "t", body, session)
        made = self.claims.take()
        first = self.common.first(made) if made else []
        self.claims.settle(made, first)
        if first:
            self.again += 1
            turn = self.reader.read(Chat(), "t", body, session, anew=True)
        return apply(body, turn.splices)


def body(properties: dict[str, object], text: str = "hello") -> bytes:
    parameters = {"type": "object", "properties": properties}
    tool = {"type": "function", "function": {"name": "f", "parameters": parameters}}
    messages = [{"role": "user", "content": text}]
    return json.dumps({"model": "m", "tools": [tool], "messages": messages}).encode()


A, B = {"type": "string"}, {"type": "number"}
ONE, OTHER = {"a": A, "b": B}, {"b": B, "a": A}


def test_all_workers_use_the_first_spelling() -> None:
    common = Spellings(Representatives(2**20))
    one, other = Worker(common), Worker(common)
    assert one.forwards(body(ONE)) == body(ONE)
    assert other.forwards(body(OTHER)) == body(ONE)
    assert other.forwards(body(OTHER, "more")) == body(ONE, "more")
    assert one.forwards(body(OTHER, "and")) == body(ONE, "and")
    assert (one.again, other.again) == (0, 1)


def test_what_is_confirmed_is_not_asked_again_before_another_era() -> None:
    common = Spellings(Representatives(2**20))
    worker = Worker(common)
    worker.forwards(body(ONE))
    worker.reader.read(Chat(), "t", body(ONE, "x"))
    assert worker.claims.take() == []
    worker.claims.new_era()
    worker.reader.read(Chat(), "t", body(ONE, "y"), anew=True)
    assert worker.claims.take() != []


def test_frozen_text_is_that_of_the_first_turn_on_any_worker() -> None:
    import re

    rule = Rule("day", Where.SYSTEM, re.compile(r"\d{4}-\d\d-\d\d"), Action.FREEZE)
    common = Spellings(Representatives(2**20))
    workers = [Worker(common, (rule,)), Worker(common, (rule,))]

    def said(day: str) -> bytes:
        messages = [{"role": "system", "content": f"It is {day}"}, {"role": "user", "content": "x"}]
        return json.dumps({"model": "m", "messages": messages}).encode()

    assert workers[0].forwards(said("2026-01-01")) == said("2026-01-01")
    assert workers[1].forwards(said("2026-01-02")) == said("2026-01-01")
    assert workers[1].forwards(said("2026-01-03"), "another") == said("2026-01-03")


def test_tenants_and_kinds_share_nothing() -> None:
    common = Spellings(Representatives(2**20))
    first = common.first([(SPELLING, "t", b"m", b"1"), (SPELLING, "u", b"m", b"2")])
    assert first == []
    assert common.first([(FROZEN, "t", b"m", b"3")]) == []
    assert common.first([(SPELLING, "t", b"m", b"4")]) == [(0, b"1")]


def test_the_bound_is_in_bytes() -> None:
    common = Spellings(Representatives(1000))
    for number in range(10):
        common.first([(SPELLING, "t", b"%d" % number, b"x" * 100)])
    assert common.first([(SPELLING, "t", b"0", b"y")]) == []


def test_alone_it_reads_as_one_process_does() -> None:
    worker, one = Worker(Spellings(Representatives(2**20))), make_reader()
    for text in (body(ONE), body(OTHER), body(OTHER, "more")):
        assert worker.forwards(text) == apply(text, one.read(Chat(), "t", text).splices)
