import json

import pytest
from msgspec.structs import replace

from kvproxy.core.before import NONE
from kvproxy.core.canonical import Canonicaliser, Order, Whose
from kvproxy.core.dialects.chat import Chat
from kvproxy.core.growing import REREAD_ELEMENTS, Growing, Grown, Reading
from kvproxy.core.parted import Parted, parted
from kvproxy.core.representatives import Representatives
from kvproxy.core.resume import Point, ResumePoints
from kvproxy.core.spans import Span, array_spans
from kvproxy.core.types import Chain
from tests.support.makers import make_reader
from tests.support.memory import taken

BLOCK_BYTES = 64
NOTHING = Point(0, 0, b"", (0, 0), 0, NONE, None, b"", Chain(), 0, [])


def body(count: int) -> bytes:
    said = [{"role": "user", "content": f"message {n} " * 40} for n in range(count)]
    return json.dumps(said).encode()


def spans(raw: bytes) -> list[Span]:
    found = array_spans(raw)
    assert found
    return found


class Lists:
    """Bodies that are nothing but a list."""

    def __init__(self) -> None:
        self.points = ResumePoints(10)
        canon = Canonicaliser(Order.FIRST_SEEN, Representatives(2**20))
        self._growing = Growing(canon, self.points, BLOCK_BYTES)

    def reading(self, raw: bytes) -> Reading:
        return Reading(Chat(), Whose("t"), raw, "scope")

    def append(self, raw: bytes, before: Chain, led: bool = False) -> Grown:
        return self._growing.append(self.reading(raw), before, spans(raw), led=led)

    def grow(self, raw: bytes, lead: tuple[int, int] | None = None) -> Grown:
        start = replace(NOTHING, lead=lead)
        return self._growing.grow(self.reading(raw), start, None, spans(raw))

    def begin(self, raw: bytes, parts: Parted) -> Grown:
        return self._growing.begin(self.reading(raw), NOTHING, parts)

    def go_on(self, raw: bytes) -> Grown:
        begun = self.points.find("scope", raw)
        assert begun is not None
        rest = [span for span in spans(raw) if span.start >= begun.point.offset]
        assert len(rest) + begun.point.elements == len(spans(raw))
        return self._growing.grow(self.reading(raw), begun.point, begun, rest)


def test_a_list_is_the_same_however_it_is_read() -> None:
    lists, raw = Lists(), body(9)
    appended, grown = lists.append(raw, Chain()), lists.grow(raw)
    assert (appended.chain, appended.firsts) == (grown.chain, grown.firsts)
    assert len(grown.chain.items) == 9
    assert [raw[grown.starts(n) :][:1] for n in range(9)] == [b"{"] * 9


def test_what_is_known_is_not_read_again() -> None:
    lists = Lists()
    first = lists.grow(body(9))
    again = lists.go_on(body(11))
    assert (again.before, list(again.firsts)) == (9, [9, 10])
    assert again.chain == lists.append(body(11), Chain()).chain
    assert first.chain == lists.append(body(9), Chain()).chain, "it was copied"
    assert list(lists.go_on(body(11)).firsts) == []
    assert list(lists.go_on(body(12)).firsts) == [11]
    assert list(lists.go_on(body(19)).firsts) == [12, 13, 14, 15, 16, 17, 18]
    assert len(lists.points) == 1


def test_what_changed_in_the_last_elements_is_read_again() -> None:
    lists, changed = Lists(), body(11).replace(b"message 7 ", b"message x ")
    lists.grow(body(9))
    again = lists.go_on(changed)
    assert (again.before, list(again.firsts)) == (6, [6, 7, 8, 9, 10])
    assert again.chain == lists.append(changed, Chain()).chain
    assert len(lists.points) == 1


def test_now_and_then_what_lies_ahead_is_read_again() -> None:
    lists, read = Lists(), []
    lists.grow(body(9))
    for count in range(10, 50):
        grown = lists.go_on(body(count))
        assert grown.chain == lists.append(body(count), Chain()).chain
        read.append(len(grown.firsts))
    assert set(read) == {1, 18}
    assert len(lists.points) == 1


@pytest.mark.parametrize("grows", [False, True])
def test_a_first_element_of_the_head_has_no_segment_of_its_own(grows: bool) -> None:
    lists, raw = Lists(), body(5)
    lead = spans(raw)[0]
    grown = lists.grow(raw, (lead.start, lead.end)) if grows else lists.append(raw, Chain(), True)
    assert list(grown.firsts) == [0, 0, 1, 2, 3]
    assert grown.chain == lists.append(b"[" + raw[spans(raw)[1].start :], Chain()).chain


def test_what_went_before_is_not_changed() -> None:
    lists = Lists()
    before = lists.append(body(2), Chain()).chain
    kept = before.copy()
    assert len(lists.append(body(3), before).chain.items) == 5
    assert before == kept


def test_a_list_in_parts_is_the_same_list() -> None:
    lists, raw = Lists(), json.dumps({"messages": json.loads(body(12))}).encode()
    parts = parted(raw, "messages", Chat.begins, REREAD_ELEMENTS)
    assert parts is not None
    begun = lists.begin(raw, parts)
    assert begun.chain == lists.append(body(12), Chain()).chain
    assert [raw[begun.starts(n) :][:7] for n in range(12)] == [b'{"role"'] * 12
    found = lists.points.find("scope", raw)
    assert found is not None
    assert (found.filed.elements, found.filed.offset) == (9, parts.middle.end)


def conversation(number: int, messages: int) -> bytes:
    """4 kB a message, of some 400 kB with a hundred of them; conversations begin alike."""
    said = [{"role": "system", "content": "be brief " * 400}]
    for index in range(messages):
        role = "assistant" if index % 2 else "user"
        said.append({"role": role, "content": f"{number} {index} ".ljust(4000, "x")})
    return json.dumps({"model": "m", "messages": said}).encode()


def test_a_conversation_of_400_kb_takes_12_kb() -> None:
    """After any number of turns, on top of what all of them share."""
    reader, count = make_reader(block_bytes=1024), 8

    def have(first: int) -> None:
        for number in range(first, first + count):
            for messages in (90, 92, 98):
                assert len(reader.read(Chat(), "", conversation(number, messages)).chain)

    have(0)
    _, bytes_ = taken(lambda: have(count))
    print(f"{bytes_ / count:,.0f} bytes of state for {len(conversation(0, 98)):,} of prompt")
    assert bytes_ / count < 12_000
