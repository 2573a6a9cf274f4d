"""Single bodies; random conversations are in tests/property."""

import itertools
import json
from typing import Any

import pytest

from kvproxy.core.canonical import Canonicaliser, Order
from kvproxy.core.dialects.chat import Chat
from kvproxy.core.errors import ProxyError
from kvproxy.core.heads import Head
from kvproxy.core.pools import Arm, Pools
from kvproxy.core.representatives import Representatives
from kvproxy.core.turn import TurnReader, apply
from kvproxy.core.types import Splice
from tests.support.makers import make_reader, make_replica

CHAT = Chat()
TOOLS = b'[{"type":"function","function":{"name":"a","parameters":{"x":1,"y":2}}},{"b":1}]'
SHUFFLED = b'[{"b":1}, {"function":{"parameters":{"y":2,"x":1},"name":"a"},"type":"function"}]'


def body(count: int, *, tools: bytes = TOOLS, tools_last: bool = False, model: str = "m") -> bytes:
    messages = [{"role": "user", "content": f"message {n} " * 20} for n in range(count)]
    first, second = b'"tools":' + tools, b'"messages":' + json.dumps(messages).encode()
    if tools_last:
        first, second = second, first
    return b'{"model":"%s",%s,%s,"stream":true}' % (model.encode(), first, second)


def test_model_stream_and_members() -> None:
    turn = make_reader().read(CHAT, "", body(2))
    assert (turn.model, turn.stream, turn.resumed_at) == ("m", True, 0)
    assert list(turn.members) == ["model", "tools", "messages", "stream"]
    assert turn.members["tools"].raw == TOOLS


@pytest.mark.parametrize("tools_last", [False, True])
def test_later_turns_resume(tools_last: bool) -> None:
    reader = make_reader()
    assert reader.read(CHAT, "", body(10, tools_last=tools_last)).resumed_at == 0
    ends = [reader.read(CHAT, "", body(n, tools_last=tools_last)).resumed_at for n in (12, 14, 16)]
    assert ends == sorted(set(ends))
    assert ends[0] > 0


def test_splices_of_tools_follow_them_wherever_they_stand() -> None:
    reader = make_reader()
    reader.read(CHAT, "", body(1))
    for tools_last in (False, True, False):
        for model in ("m", "longer model name"):
            raw = body(1, tools=SHUFFLED, tools_last=tools_last, model=model)
            splices = reader.read(CHAT, "", raw).splices
            assert apply(raw, splices) == body(1, tools_last=tools_last, model=model)
            assert [splice.kind for splice in splices] == ["tool_order"]


def test_a_shuffled_schema_alone_is_a_smaller_splice() -> None:
    reader = make_reader()
    reader.read(CHAT, "", body(1))
    raw = body(1, tools=TOOLS.replace(b'{"x":1,"y":2}', b'{"y":2,"x":1}'))
    splices = reader.read(CHAT, "", raw).splices
    assert [splice.kind for splice in splices] == ["schema_order"]
    assert apply(raw, splices) == body(1)


def test_splices_of_early_elements_are_kept_when_reading_resumes() -> None:
    def with_call(arguments: str, count: int) -> bytes:
        function = {"name": "f", "arguments": arguments}
        messages = [{"role": "assistant", "tool_calls": [{"function": function}]}]
        more = [{"role": "user", "content": "x" * 100} for _ in range(count)]
        messages += more  # type: ignore[arg-type]
        return json.dumps({"model": "m", "messages": messages}).encode()

    reader = make_reader()
    reader.read(CHAT, "", with_call('{"a":1,"b":2}', 0))
    for count in (10, 12, 14):
        raw = with_call('{"b":2,"a":1}', count)
        turn = reader.read(CHAT, "", raw)
        assert apply(raw, turn.splices) == with_call('{"a":1,"b":2}', count)
    assert turn.resumed_at > 0


@pytest.mark.parametrize("behind", [b'"tools":' + TOOLS, b'"cache_salt":"s"', b'"n":1'])
def test_later_turns_know_their_head_as_it_was_read(behind: bytes) -> None:
    """What is behind the list in one turn, both or none of them."""
    reader, twin = make_reader(), make_reader()
    reader.read(CHAT, "", body(1))
    twin.read(CHAT, "", body(1))
    for first, second in itertools.product((False, True), repeat=2):
        for count, there in ((10, first), (12, second), (14, second)):
            raw = body(count, tools=b"[]" if b"tools" in behind else SHUFFLED)
            raw = raw[:-1] + b"," + behind + b"}" if there else raw
            raw = raw.replace(b'"tools":[],', b"")
            read, anew = reader.read(CHAT, "", raw), twin.read(CHAT, "", raw, anew=True)
            assert read.chain == anew.chain
            assert read.splices == anew.splices
            assert read.head == anew.head


def test_a_changed_beginning_is_read_anew() -> None:
    reader = make_reader()
    reader.read(CHAT, "", body(10))
    changed = body(12).replace(b"message 0 ", b"Message 0 ", 1)
    assert reader.read(CHAT, "", changed).resumed_at == 0


def test_a_member_behind_the_list_that_stood_before_it_too() -> None:
    """A repeated key: the last one counts, as engines read it, and the body passes untouched."""
    reader = make_reader()
    reader.read(CHAT, "", body(10))
    plain = reader.read(CHAT, "", body(12).replace(b'"model":"m"', b'"model":"other"'))
    repeated = body(12)[:-1] + b',"model":"other"}'
    turn = reader.read(CHAT, "", repeated)
    assert (turn.model, turn.chain, turn.splices) == ("other", plain.chain, [])
    assert turn.members == {}
    again = body(12)[:-1] + b',"messages":[]}'
    assert len(reader.read(CHAT, "", again).chain.items) == 2


def test_keys_that_are_escaped_are_read_and_never_touched() -> None:
    reader = make_reader()
    plain = reader.read(CHAT, "", body(12))
    odd = reader.read(CHAT, "", body(12).replace(b'"messages"', b'"m\\u0065ssages"'))
    assert (odd.chain, odd.splices, odd.members) == (plain.chain, [], {})
    # One that cannot be written plainly.
    assert not len(reader.read(CHAT, "", body(12)[:-1] + b',"a\\"b":1}').chain)


@pytest.mark.parametrize("cut", [1, 20, 200])
def test_a_known_beginning_with_a_broken_end(cut: int) -> None:
    reader = make_reader()
    reader.read(CHAT, "", body(10))
    with pytest.raises(ProxyError) as raised:
        reader.read(CHAT, "", body(12)[:-cut])
    assert raised.value.code == "invalid_json"


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (b"", "invalid_json"),
        (b"{", "invalid_json"),
        (b'{"model":"m"} x', "invalid_json"),
        (b'{"a":' + b"[" * 5000 + b"]" * 5000 + b"}", "invalid_json"),
        (b'{"model":"m","messages":[{"role":"user","content":"\xff"}]}', "invalid_json"),
        (b'{"\xff":1}', "invalid_json"),
        (b'{"model":"\xff"}', "invalid_json"),
        (b"[]", "invalid_body"),
        (b'"text"', "invalid_body"),
        (b"null", "invalid_body"),
    ],
)
def test_what_no_engine_would_take(raw: bytes, code: str) -> None:
    with pytest.raises(ProxyError) as raised:
        make_reader().read(CHAT, "", raw)
    assert (raised.value.code, raised.value.status) == (code, 400)


@pytest.mark.parametrize("raw", [b"{}", b'{"model":7}', b'{"model":null,"messages":null}'])
def test_a_body_without_a_model_or_a_prompt(raw: bytes) -> None:
    turn = make_reader().read(CHAT, "", raw)
    assert (turn.model, turn.stream, turn.splices) == ("", False, [])


def test_escaped_keys_are_read_but_never_touched() -> None:
    turn = make_reader().read(CHAT, "", rb'{"mod\u0065l":"m","stream":true,"messages":[]}')
    assert (turn.model, turn.stream, turn.members, len(turn.chain)) == ("m", True, {}, 0)


def test_applying_splices() -> None:
    splices = [Splice(6, 9, b"Z", "k"), Splice(0, 1, b"AAA", "k"), Splice(3, 3, b"+", "k")]
    assert apply(b"abcdefghij", splices) == b"AAAbc+defZj"
    assert apply(b"abc", []) == b"abc"
    with pytest.raises(AssertionError, match="overlap"):
        apply(b"abcdef", [Splice(0, 3, b"", "k"), Splice(2, 4, b"", "k")])


def test_conversations_with_one_large_set_of_tools_all_resume() -> None:
    tools = json.dumps([{"name": f"t{n}", "text": "d" * 2000} for n in range(20)])
    reader = make_reader()
    for turn in range(2):
        for conversation in range(20):
            texts = [f"{conversation} {n} " * 40 for n in range(5 + turn)]
            messages = json.dumps([{"role": "user", "content": text} for text in texts])
            raw = f'{{"model":"m","tools":{tools},"messages":{messages}}}'
            read = reader.read(CHAT, "", raw.encode())
            assert (read.resumed_at > 0) == (turn > 0)
            assert len(read.chain) > 20
    points = [point for filed in reader._points._filed.values() for point in filed]
    assert len(points) == 20
    assert all(raw[slice(*point.members.large["tools"])] == tools for point in points)


def test_a_name_that_stands_for_another_model_now_is_read_anew() -> None:
    pools = Pools(lambda: [make_replica(models=("x", "y"))])
    canon = Canonicaliser(Order.FIRST_SEEN, Representatives(2**20))
    reader, chains = TurnReader(canon, 64, 100, pools=pools), []
    for model in ("x", "y"):
        pools.replace({"m": [Arm(model)]}, {})
        turn = reader.read(CHAT, "", body(9))
        assert turn.model == model
        chains.append(turn.chain)
    assert set(chains[0].hashes).isdisjoint(chains[1].hashes)


def test_what_was_kept_of_a_head_counts_no_more_when_it_is_learned_anew(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Another spelling was settled meanwhile: this conversation has to take it too."""
    reader = make_reader()
    assert reader.read(CHAT, "", body(10)).splices == []
    assert reader.read(CHAT, "", body(12)).splices == []
    kept = [point.fixed for points in reader._points._filed.values() for point in points]
    assert None not in kept
    # As if another spelling had been settled by the fleet meanwhile.
    reader._heads.clear()
    asked, find = [], reader._heads.head

    def head(*given: Any) -> Head:
        asked.append(given)
        return find(*given)

    monkeypatch.setattr(reader._heads, "head", head)
    assert reader.read(CHAT, "", body(14)).resumed_at > 0
    assert len(asked) == 1
    for count in (14, 15, 15, 18, 24):
        read, anew = reader.read(CHAT, "", body(count)), make_reader().read(CHAT, "", body(count))
        assert (read.chain, read.splices, read.head) == (anew.chain, anew.splices, anew.head)
        assert read.resumed_at > 0
    assert len(asked) == 1, "from then on it is known again"


def test_large_splices_of_a_head_are_not_kept_with_a_conversation() -> None:
    filler = b'{"c":"' + b"x" * 5000 + b'"}'
    tools = b"[%b,%b]" % (TOOLS[1:-1], filler)
    mixed = b"[%b,%b]" % (filler, SHUFFLED[1:-1])
    reader = make_reader()
    reader.read(CHAT, "", body(10, tools=tools))
    first = reader.read(CHAT, "", body(10, tools=mixed))
    assert sum(len(splice.new) for splice in first.splices) > 4096
    later = reader.read(CHAT, "", body(12, tools=mixed))
    assert later.resumed_at > 0
    assert later.splices == first.splices
    kept = [point.fixed for points in reader._points._filed.values() for point in points]
    assert None in kept


@pytest.mark.parametrize("member", [b"chat_template_kwargs", b"tools"])
def test_numbers_beyond_all_bounds_pass_as_they_came(member: bytes) -> None:
    """They are JSON, and what an engine makes of them is for the engine to say."""
    value = b'[{"type":"function","function":{"name":"f","parameters":{"maximum":1e400}}}]'
    raw = body(1, tools=value if member == b"tools" else TOOLS)
    if member != b"tools":
        raw = raw[:-1] + b',"chat_template_kwargs":{"x":1e400}}'
    turn = make_reader().read(CHAT, "", raw)
    assert not turn.splices
    assert len(turn.chain) == 0
