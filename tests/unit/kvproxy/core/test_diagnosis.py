import json

import pytest

from kvproxy.core.diagnosis import EVICTED, MOVED, NOTHING, Diagnosis, Verdict, verdict
from kvproxy.core.dialects.chat import Chat
from kvproxy.core.ruler import Ruler
from kvproxy.core.turn import Turn
from kvproxy.core.types import Identity, Usage
from tests.support.makers import make_reader

ME = Identity("t", "m", "s")
TEXTS = [f"{n} " * 1500 for n in range(6)]


class World:
    def __init__(self) -> None:
        self.reader = make_reader()
        self.diagnosis = Diagnosis(Ruler(1000), 2**20)

    def turn(self, texts: list[str]) -> Turn:
        messages = [{"role": "user", "content": text} for text in texts]
        return self.reader.read(
            Chat(), "t", json.dumps({"model": "m", "messages": messages}).encode()
        )

    def ask(
        self, texts: list[str], cached: int | None, replica: str = "r0", identity: Identity = ME
    ) -> Verdict:
        turn = self.turn(texts)
        step = self.diagnosis.follow(identity, turn.chain)
        usage = Usage(turn.chain.text_bytes[-1] // 4, 5, cached)
        stake = self.diagnosis.stake(identity, turn.chain, step)
        self.diagnosis.went(identity, step, replica)
        return verdict(stake, turn, replica, usage)


def test_a_prompt_that_goes_on_loses_nothing() -> None:
    world = World()
    assert world.ask(TEXTS[:3], 0) == NOTHING
    verdict = world.ask(TEXTS[:4], 3000)
    assert (verdict.cause, verdict.lost_tokens) == ("", 0)
    assert verdict.kept_tokens == verdict.before_tokens > 2000


def test_an_edit_is_placed_and_measured() -> None:
    world = World()
    world.ask(TEXTS[:5], 0)
    verdict = world.ask([*TEXTS[:2], "other", *TEXTS[3:]], 1500)
    assert verdict.cause == "history_edited"
    assert verdict.place is not None
    assert verdict.place.pointer == "/messages/2"
    assert 0 < verdict.kept_tokens < verdict.before_tokens
    assert verdict.lost_tokens == verdict.before_tokens - verdict.kept_tokens


@pytest.mark.parametrize(("replica", "cause"), [("r0", EVICTED), ("r1", MOVED)])
def test_blocks_that_are_gone(replica: str, cause: str) -> None:
    world = World()
    world.ask(TEXTS[:5], 0)
    verdict = world.ask(TEXTS, 32, replica)
    assert verdict.cause == cause
    assert verdict.kept_tokens == 32
    assert verdict.lost_tokens > 2000


def test_what_is_not_reported_is_not_lost() -> None:
    world = World()
    world.ask(TEXTS[:5], 0)
    assert world.ask(TEXTS, None) == NOTHING


def test_without_a_session_nothing_is_concluded() -> None:
    world = World()
    nobody = Identity("t", "m", "")
    world.ask(TEXTS[:5], 0, identity=nobody)
    assert world.ask(TEXTS[1:], 0, identity=nobody) == NOTHING
    assert world.diagnosis.sessions() == 0
