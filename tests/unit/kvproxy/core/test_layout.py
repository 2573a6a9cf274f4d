import json

import pytest

from kvproxy.core.dialects.chat import Chat
from kvproxy.core.dialects.messages import Messages
from kvproxy.core.layout import NOWHERE, Place
from kvproxy.core.turn import Turn, TurnReader
from tests.support.makers import make_reader


def body(messages: int) -> bytes:
    said = [{"role": "user", "content": f"message {n} " * 40} for n in range(messages)]
    result = [{"type": "tool_result", "content": "r"}, {"type": "text", "text": "t"}]
    said.insert(1, {"role": "user", "content": result})  # type: ignore[dict-item]
    tools = [{"name": name, "input_schema": {}} for name in "ab"]
    value = {"model": "m", "messages": said, "tools": tools, "system": "be brief"}
    return json.dumps(value).encode()


def place(turn: Turn, segment: int) -> Place | None:
    return turn.layout.place(segment, "messages", turn.members)


def read(reader: TurnReader, messages: int) -> Turn:
    return reader.read(Messages(), "", body(messages))


@pytest.mark.parametrize(
    ("segment", "pointer", "starts"),
    [
        (0, "/system", '"be brief"'),
        (1, "/tools/0", "["),
        (2, "/tools/1", "["),
        (3, "/messages/0", '{"role": "user", "content": "message 0'),
        (4, "/messages/1", '{"role": "user", "content": [{"type": "tool_result"'),
        (5, "/messages/1", '{"role": "user", "content": [{"type": "tool_result"'),
        (6, "/messages/2", '{"role": "user", "content": "message 1'),
    ],
)
def test_segments_have_a_place_in_the_body(segment: int, pointer: str, starts: str) -> None:
    found = place(read(make_reader(), 4), segment)
    assert found is not None
    assert found.pointer == pointer
    assert body(4)[found.offset :].startswith(starts.encode())


def test_what_was_not_read_again_has_none() -> None:
    reader = make_reader()
    read(reader, 8)
    turn = read(reader, 9)
    assert turn.resumed_at > 0
    assert place(turn, 3) is None
    assert place(turn, 0) is not None
    found = place(turn, len(turn.chain.items) - 1)
    assert found is not None
    assert found.pointer == "/messages/9"
    assert body(9)[found.offset :].startswith(b'{"role": "user", "content": "message 8')


def test_a_system_message_has_its_place_in_every_turn() -> None:
    reader = make_reader()
    for messages in (8, 9):
        said = [{"role": "user", "content": f"message {n} " * 40} for n in range(messages)]
        said.insert(0, {"role": "system", "content": "be brief"})
        raw = json.dumps({"messages": said, "model": "m"}).encode()
        turn = reader.read(Chat(), "", raw)
        found = turn.layout.place(0, "messages", turn.members)
        assert found == Place("/messages/0", raw.index(b'{"role": "system"'))
    assert turn.resumed_at > 0


def test_a_body_that_was_not_understood() -> None:
    assert NOWHERE.place(0, "messages", {}) is None
