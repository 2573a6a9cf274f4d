from typing import Any

import orjson
import pytest

from kvproxy.core.dialects import BY_NAME
from kvproxy.core.hot_prefixes import HotPrefixes, Prefix
from kvproxy.core.turn import Turn
from tests.support.makers import make_reader

SYSTEM = "Do this and that. " * 400
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}


def chat(system: str = SYSTEM, said: str = "hi", **more: Any) -> dict[str, Any]:
    messages = [{"role": "system", "content": system}, {"role": "user", "content": said}]
    return {"model": "m", "messages": messages, "tools": [TOOL], "temperature": 1} | more


def use(
    hot: HotPrefixes,
    body: dict[str, Any],
    now: float = 0.0,
    dialect: str = "chat",
    session: str = "",
) -> Turn:
    raw = orjson.dumps(body)
    turn = make_reader().read(BY_NAME[dialect], "", raw)
    hot.used(turn, "/v1/x", raw, now, session)
    return turn


def hottest(hot: HotPrefixes, now: float = 0.0) -> list[Prefix]:
    return hot.hottest(lambda model: model == "m", 9, now)


def test_what_two_prompts_begin_with_is_kept_with_one_word_behind_it() -> None:
    hot = HotPrefixes(2**20)
    one = use(hot, chat(said="a" * 5000))
    assert hottest(hot) == []
    two = use(hot, chat(said="b" * 5000))
    [prefix] = hottest(hot)
    asked = orjson.loads(prefix.body)
    assert asked == {
        "model": "m",
        "tools": [TOOL],
        "messages": [chat()["messages"][0], {"role": "user", "content": "."}],
        "max_tokens": 1,
    }
    held = len(prefix.chain)
    assert 0 < held < len(two.chain)
    assert prefix.chain.hashes == one.chain.hashes[:held] == two.chain.hashes[:held]
    assert hot.bytes == len(prefix.body)
    assert hot.hottest(lambda model: False, 9, 0.0) == []


@pytest.mark.parametrize(
    ("dialect", "body", "asked"),
    [
        (
            "messages",
            {"system": SYSTEM, "messages": [{"role": "user", "content": "x"}], "max_tokens": 9},
            {"system": SYSTEM, "messages": [{"role": "user", "content": "."}], "max_tokens": 1},
        ),
        (
            "responses",
            {"instructions": SYSTEM, "input": "x"},
            {"instructions": SYSTEM, "input": ".", "max_output_tokens": 1, "store": False},
        ),
    ],
)
def test_every_dialect_with_a_head(
    dialect: str, body: dict[str, Any], asked: dict[str, Any]
) -> None:
    hot = HotPrefixes(2**20)
    for _ in range(2):
        use(hot, {"model": "m"} | body, dialect=dialect)
    [prefix] = hottest(hot)
    assert orjson.loads(prefix.body) == {"model": "m"} | asked


def test_what_one_session_alone_begins_with_is_not_kept() -> None:
    hot = HotPrefixes(2**20)
    for turn in range(5):
        use(hot, chat(said="a" * turn), session="one")
    assert hottest(hot) == []
    use(hot, chat(), session="two")
    assert len(hottest(hot)) == 1


def test_a_prompt_that_will_not_be_kept_is_looked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    looked = []

    def spans(body: bytes) -> None:
        looked.append(body)

    monkeypatch.setattr("kvproxy.core.hot_prefixes.object_spans", spans)
    hot = HotPrefixes(2**20)
    for _ in range(5):
        use(hot, chat())
    assert len(looked) == 1
    assert hottest(hot) == []


def test_short_heads_and_those_without_one_are_nothing() -> None:
    hot = HotPrefixes(2**20)
    for _ in range(3):
        use(hot, chat("short", said=SYSTEM))
        use(hot, {"model": "m", "prompt": SYSTEM}, dialect="completions")
    assert hottest(hot) == []


def test_the_hottest_comes_first_and_heat_fades() -> None:
    hot = HotPrefixes(2**20)
    for _ in range(5):
        use(hot, chat("old " + SYSTEM), 0.0)
    for _ in range(3):
        use(hot, chat("new " + SYSTEM), 3600.0)
    found = hottest(hot, 3600.0)
    assert [b"new " in prefix.body for prefix in found] == [True, False]


def test_memory_is_bounded() -> None:
    hot = HotPrefixes(50_000)
    for index in range(20):
        for _ in range(2):
            use(hot, chat(f"{index} {SYSTEM}"), float(index))
    assert 0 < hot.bytes <= 50_000
    assert sum(len(prefix.body) for prefix in hottest(hot)) == hot.bytes
    use(hot, chat("x" * 60_000))
    use(hot, chat("x" * 60_000))
    assert hot.bytes <= 50_000
