import json

from kvproxy.core.afterwards import remember
from kvproxy.core.answer import AnswerWatch
from kvproxy.core.canonical import Canonicaliser, Order
from kvproxy.core.dialects.chat import Chat
from kvproxy.core.dialects.responses import Responses
from kvproxy.core.representatives import Representatives
from kvproxy.core.turn import TurnReader
from kvproxy.core.types import Usage

USAGE = Usage(1, 1, 0)


def make_reader(echoes: bool = True) -> TurnReader:
    canon = Canonicaliser(Order.FIRST_SEEN, Representatives(2**20), echoes=echoes)
    return TurnReader(canon, 64, 100)


def test_a_response_can_be_gone_on_from() -> None:
    reader = make_reader()
    turn = reader.read(Responses(), "t", b'{"model":"m","input":"x"}')
    watch = AnswerWatch((), reader.tap(turn))
    watch.feed(json.dumps({"id": "resp_1", "output": []}).encode())
    assert remember(reader, turn, "t", watch, USAGE) == "resp_1"
    body = b'{"model":"m","input":"y","previous_response_id":"resp_1"}'
    assert len(reader.read(Responses(), "t", body).chain) > len(turn.chain)


def test_a_chat_answer_is_no_response() -> None:
    reader = make_reader()
    turn = reader.read(Chat(), "t", b'{"model":"m","messages":[{"role":"user"}]}')
    watch = AnswerWatch((), reader.tap(turn))
    watch.feed(b'{"id": "resp_1", "choices": []}')
    assert remember(reader, turn, "t", watch, USAGE) == ""


def test_without_echoes_nothing_is_tapped() -> None:
    reader = make_reader(echoes=False)
    turn = reader.read(Chat(), "t", b'{"model":"m","messages":[{"role":"user"}]}')
    assert reader.tap(turn) is None
