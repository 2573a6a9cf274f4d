"""Names in bodies: what is spliced, and that conversations keep their model."""

import json
from collections import Counter
from random import Random
from typing import Any

import pytest

from kvproxy.core.canonical import Canonicaliser, Order
from kvproxy.core.dialects.chat import Chat
from kvproxy.core.dialects.completions import Completions
from kvproxy.core.dialects.responses import Responses
from kvproxy.core.dry_run import DryReader
from kvproxy.core.errors import ProxyError
from kvproxy.core.life_cycle import Health
from kvproxy.core.naming import passing
from kvproxy.core.pools import Arm, Pools
from kvproxy.core.representatives import Representatives
from kvproxy.core.turn import TurnReader, apply
from tests.support.makers import make_replica

CHAT = Chat()
FORM = "multipart/form-data; boundary=b"


def make_pools(**names: list[Arm]) -> Pools:
    replicas = [make_replica(name, models=(name,)) for name in ("a", "b", "org/x")]
    pools = Pools(lambda: replicas)
    pools.replace(names or {"one": [Arm("org/x")], "two": [Arm("a", 3), Arm("b", 1)]}, {})
    return pools


def reader(pools: Pools, order: Order = Order.FIRST_SEEN) -> TurnReader:
    canon = Canonicaliser(order, Representatives(2**20))
    return TurnReader(canon, 64, 1000, pools=pools)


def chat(model: str, *texts: str, **more: Any) -> bytes:
    messages = [{"role": "user", "content": text} for text in texts]
    return json.dumps({"model": model, **more, "messages": messages}).encode()


def long(count: int, seed: object = 0) -> list[str]:
    return [f"{seed} message {n} " * 40 for n in range(count)]


def test_an_alias_and_its_model_share_one_chain_and_one_text() -> None:
    made = reader(make_pools())
    aliased, plain = chat("one", *long(4)), chat("org/x", *long(4))
    turn, other = made.read(CHAT, "", aliased), made.read(CHAT, "", plain)
    assert (turn.model, turn.sent, other.sent) == ("org/x", "one", "org/x")
    assert turn.chain == other.chain
    assert apply(aliased, turn.splices) == plain
    assert other.splices == []


@pytest.mark.parametrize("session", ["", "s"])
@pytest.mark.parametrize("model", ["one", "two"])
def test_later_turns_resume_and_keep_their_model(model: str, session: str) -> None:
    made = reader(make_pools())
    turns = [made.read(CHAT, "", chat(model, *long(n)), session) for n in range(4, 30, 2)]
    assert len({turn.model for turn in turns}) == 1
    assert all(turn.resumed_at > 0 for turn in turns[3:])
    again = chat(model, *long(28))
    last = apply(again, turns[-1].splices)
    assert json.loads(last) == json.loads(again) | {"model": turns[-1].model}


def test_conversations_are_split_by_their_sessions_whatever_they_say() -> None:
    made, drawn = reader(make_pools()), Counter[str]()
    for n in range(400):
        models = {made.read(CHAT, "t", chat("two", f"{n}", f"{k}"), f"s{n}").model for k in "xy"}
        assert len(models) == 1
        drawn.update(models)
    assert 0.65 < drawn["a"] / 400 < 0.85


def test_without_a_session_by_the_first_message_behind_the_system_text() -> None:
    seed = 7
    random, made, drawn = Random(seed), reader(make_pools()), Counter[str]()
    for _ in range(300):
        texts = [random.randbytes(8).hex() for _ in range(6)]
        found = set()
        for until in (1, 3, 6):
            messages = [{"role": "user", "content": text} for text in texts[:until]]
            messages.insert(0, {"role": "system", "content": f"the time is {random.random()}"})
            body = json.dumps({"model": "two", "messages": messages}).encode()
            found.add(made.read(CHAT, "", body).model)
        assert len(found) == 1, seed
        drawn.update(found)
    assert 0.63 < drawn["a"] / 300 < 0.87, seed


def test_two_proxies_draw_alike() -> None:
    one, other = reader(make_pools()), reader(make_pools())
    for n in range(50):
        body = chat("two", f"question {n}", user="x")
        assert one.read(CHAT, "", body).model == other.read(CHAT, "", body).model


def test_who_goes_on_from_a_response_stays_with_its_model() -> None:
    made = reader(make_pools())
    first = {"model": "two", "input": "hello"}
    for n in range(20):
        begun = made.read(Responses(), "t", json.dumps(first | {"input": f"hi {n}"}).encode())
        made.responded(begun, "t", f"r{n}", 5)
        body = {"model": "two", "previous_response_id": f"r{n}", "input": "and then?"}
        assert made.read(Responses(), "t", json.dumps(body).encode()).model == begun.model


def test_a_drained_model_hands_its_conversations_on_and_takes_them_back() -> None:
    a, b = make_replica("a", models=("a",)), make_replica("b", models=("b",))
    pools = Pools(lambda: [a, b])
    pools.replace({"two": [Arm("a"), Arm("b")]}, {})
    made = reader(pools)
    seen = [made.read(CHAT, "", chat("two", *long(6, n))).model for n in range(20)]
    assert set(seen) == {"a", "b"}
    b.life.health = Health.DRAINING
    assert {made.read(CHAT, "", chat("two", *long(8, n))).model for n in range(20)} == {"a"}
    b.life.health = Health.READY
    assert [made.read(CHAT, "", chat("two", *long(6, n))).model for n in range(20)] == seen


def test_a_dry_run_renames_and_changes_nothing_else() -> None:
    pools = make_pools()
    made = DryReader(reader(pools, Order.PRESERVE), reader(pools))
    body = chat("one", "hello")
    turn = made.read(CHAT, "", body)
    assert apply(body, turn.splices) == chat("org/x", "hello")
    assert turn.not_applied == []


def test_completions_and_odd_bodies() -> None:
    made = reader(make_pools())
    body = b'{"prompt":"x","model" : "one"}'
    turn = made.read(Completions(), "", body)
    assert apply(body, turn.splices) == b'{"prompt":"x","model" : "org/x"}'
    for odd in (
        b'{"model":"two"}',
        b'{"model":"two","messages":7}',
        b'{"model":"two","messages":[]}',
    ):
        assert made.read(CHAT, "", odd).model in ("a", "b")
    for unread in (b'{"model":"one","model":"one"}', b'{"mod\\u0065l":"one"}'):
        with pytest.raises(ProxyError, match="once each"):
            made.read(CHAT, "", unread)
    assert made.read(CHAT, "", b'{"model":"m","model":"n"}').model == "n"


@pytest.mark.parametrize(
    ("body", "kind", "renamed"),
    [
        (b'{"input":"x", "model":"one"}', "application/json", b'{"input":"x", "model":"org/x"}'),
        (b'{"input":"x","model":"m"}', "application/json", b'{"input":"x","model":"m"}'),
        (b"\x00one", "application/octet-stream", b"\x00one"),
        (
            b'--b\r\nContent-Disposition: form-data; name="model"\r\n\r\none\r\n--b--\r\n',
            FORM,
            b'--b\r\nContent-Disposition: form-data; name="model"\r\n\r\norg/x\r\n--b--\r\n',
        ),
    ],
)
def test_what_passes_is_renamed_in_place(body: bytes, kind: str, renamed: bytes) -> None:
    checked: list[str] = []
    assert passing(make_pools(), body, kind, "", checked.append)[1] == renamed
    assert len(checked) == 1


def test_what_passes_unread_is_refused_if_it_would_have_to_change() -> None:
    with pytest.raises(ProxyError, match="once each"):
        passing(make_pools(), b'{"model":"one","model":"one"}', "application/json", "", str)


def test_completions_are_split_by_their_prompt() -> None:
    made, dialect = reader(make_pools()), Completions()
    went = {}
    for number in range(40):
        body = json.dumps({"model": "two", "prompt": f"{number} prompt " * 30}).encode()
        went[number] = made.read(dialect, "", body).model
        assert made.read(dialect, "", body).model == went[number]
    assert set(went.values()) == {"a", "b"}
    assert made.read(dialect, "", b'{"model":"two"}').model in ("a", "b")


def test_a_passing_body_that_cannot_be_read_is_refused() -> None:
    with pytest.raises(ProxyError, match="served under another name"):
        passing(make_pools(), b'{"model":"one","\xff":1}', "application/json", "", lambda _: None)
