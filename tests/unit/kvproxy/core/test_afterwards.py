import json

from kvproxy.core.afterwards import Answered, remember
from kvproxy.core.answer import AnswerWatch
from kvproxy.core.canonical import Canonicaliser, Order
from kvproxy.core.dialects.chat import Chat
from kvproxy.core.dialects.responses import Responses
from kvproxy.core.representatives import Representatives
from kvproxy.core.response_homes import Kept, ResponseHomes
from kvproxy.core.turn import TurnReader
from kvproxy.core.types import Identity, Usage

ME = Identity("t", "m", "s")


def make_reader(echoes: bool = True) -> TurnReader:
    canon = Canonicaliser(Order.FIRST_SEEN, Representatives(2**20), echoes=echoes)
    return TurnReader(canon, 64, 100)


def test_a_response_is_kept_also_of_an_answer_that_was_cut() -> None:
    reader, homes = make_reader(), ResponseHomes(10)
    turn = reader.read(Responses(), "t", b'{"model":"m","input":"x"}')
    for name, usage in (("resp_1", None), ("resp_2", Usage(1, 1, 0))):
        watch = AnswerWatch((), reader.tap(turn))
        watch.feed(json.dumps({"id": name, "output": []}).encode())
        remember(reader, homes, watch, Answered(turn, ME, "r1", usage, usage is not None))
    assert homes.find("resp_1", "t") == homes.find("resp_2", "t") == Kept("t", "r1", "s")


def test_a_response_without_a_session_begins_one() -> None:
    reader, homes = make_reader(), ResponseHomes(10)
    turn = reader.read(Responses(), "t", b'{"model":"m","input":"x"}')
    watch = AnswerWatch()
    watch.feed(b'{"id": "resp_1"}')
    remember(reader, homes, watch, Answered(turn, Identity("t", "m", ""), "r1", None, True))
    assert homes.find("resp_1", "t") == Kept("t", "r1", "resp_1")


def test_what_is_no_prompt_leaves_nothing() -> None:
    homes = ResponseHomes(10)
    watch = AnswerWatch()
    watch.feed(b'{"id": "resp_1"}')
    remember(make_reader(), homes, watch, None)
    assert len(homes) == 0


def test_a_chat_answer_is_no_response() -> None:
    reader, homes = make_reader(), ResponseHomes(10)
    turn = reader.read(Chat(), "t", b'{"model":"m","messages":[{"role":"user"}]}')
    watch = AnswerWatch((), reader.tap(turn))
    watch.feed(b'{"id": "resp_1", "choices": []}')
    remember(reader, homes, watch, Answered(turn, ME, "r1", Usage(1, 1, 0), True))
    assert len(homes) == 0


def test_without_echoes_nothing_is_tapped() -> None:
    reader = make_reader(echoes=False)
    turn = reader.read(Chat(), "t", b'{"model":"m","messages":[{"role":"user"}]}')
    assert reader.tap(turn) is None
