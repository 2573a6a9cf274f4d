"""What engines read where keys are escaped or repeated."""

import json

import msgspec
import pytest

from kvproxy.core.dialects.chat import Chat
from kvproxy.core.odd_layouts import members_read, written_plainly
from tests.support.makers import make_reader

CHAT = Chat()


def test_the_last_of_each_key_counts() -> None:
    odd = b'{"model":"x", "\\u0061" : [1, 2],"model":"m"}'
    members = members_read(odd)
    assert members == {"model": b'"m"', "a": b"[1, 2]"}
    plain = written_plainly(members)
    assert plain == b'{"model":"m","a":[1, 2]}'
    assert json.loads(plain) == json.loads(odd)


def test_what_is_no_object_has_no_members() -> None:
    assert members_read(b"[1]") is None
    with pytest.raises(msgspec.DecodeError):
        members_read(b'{"a":')


def test_later_turns_of_odd_bodies_have_the_chains_of_plain_ones() -> None:
    odd, plain, anew = make_reader(), make_reader(), make_reader()
    said = [{"role": "user", "content": f"{number} " * 300} for number in range(40)]
    for turn in range(12):
        messages = json.dumps(said[: 20 + turn])
        body = f'{{"model":"m","messages":{messages}}}'.encode()
        repeated = body[:-1] + b',"model":"m"}'
        chain = plain.read(CHAT, "", body).chain
        assert len(chain)
        for reader in (odd, anew):
            read = reader.read(CHAT, "", repeated, anew=reader is anew)
            assert (read.chain, read.splices, read.resumed_at) == (chain, [], 0)
