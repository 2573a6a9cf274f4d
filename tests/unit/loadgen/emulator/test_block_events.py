from struct import pack

import pytest

from kvproxy.core.kv_events import Cleared, Removed, Stored, decode_batch
from kvproxy.core.types import Tier
from loadgen.emulator.block_events import BlockEvents, HashForm, Prompt, Style, batch
from loadgen.engine_model import Request
from loadgen.tokens import ids_to_bytes

KEYS = [11, 2**63 + 12, 13, 14]
REQUEST = Request("1", pack("<4Q", *KEYS), 60, 4)
PROMPT = Prompt(ids_to_bytes(list(range(64))), "session", "")


def read(events: BlockEvents) -> list[object]:
    return list(decode_batch(batch(1.0, events.take())).events)


@pytest.mark.parametrize("style", ["map", "array"])
@pytest.mark.parametrize("form", ["int", "bytes", "signed"])
def test_every_form_reads_as_the_same(style: Style, form: HashForm) -> None:
    events = BlockEvents(16, style=style, hashes=form)
    events.opened("1", PROMPT)
    events.stored(REQUEST, 0, 2, 2)
    events.stored(REQUEST, 2, 3, 1)
    events.evicted(REQUEST.chain[:24])
    events.cleared()
    first, second, gone, cleared = read(events)
    assert isinstance(first, Stored)
    assert isinstance(second, Stored)
    assert (first.hashes, first.parent, list(first.tokens)) == (KEYS[:2], 0, list(range(32)))
    assert (second.hashes, second.parent) == (KEYS[2:3], KEYS[1])
    assert first.session == ("session" if style == "map" else "")
    assert gone == Removed([13, KEYS[1], 11], Tier.HBM, None)
    assert cleared == Cleared()


def test_copies_are_announced_and_removed() -> None:
    events = BlockEvents(16)
    events.opened("1", PROMPT)
    events.stored(REQUEST, 2, 4, 1)
    events.released(REQUEST)
    stored, gone = read(events)
    assert isinstance(stored, Stored)
    assert stored.hashes == [13, 14]
    assert gone == Removed([13], Tier.HBM, None)
    events.released(REQUEST)
    assert read(events) == []


def test_a_salt_is_told_with_the_first_block() -> None:
    events = BlockEvents(16)
    events.opened("1", Prompt(PROMPT.tokens, "", "s"))
    events.stored(REQUEST, 0, 2, 2)
    [stored] = read(events)
    assert isinstance(stored, Stored)
    assert stored.extra_keys == [["s"], None]
    assert stored.session == ""


def test_chunks_of_dram_are_placeholders() -> None:
    events = BlockEvents(128)
    events.chunks_stored(REQUEST, 0, 4)
    events.chunks_evicted(REQUEST.chain[24:])
    *stored, gone = read(events)
    assert [event.hashes for event in stored if isinstance(event, Stored)] == [[k] for k in KEYS]
    assert all(isinstance(e, Stored) and e.tier is Tier.DRAM and not e.tokens for e in stored)
    assert gone == Removed(KEYS[2:], Tier.DRAM, None)


def test_requests_nobody_told_of_are_silent() -> None:
    events = BlockEvents(16)
    events.opened("1", PROMPT)
    events.closed("1")
    events.stored(REQUEST, 0, 2, 2)
    assert read(events) == []


def test_sglang_announces_page_by_page_and_names_no_request() -> None:
    events = BlockEvents(16, style="sglang", hashes="signed")
    events.opened("1", Prompt(PROMPT.tokens, "session", "s"))
    events.stored(REQUEST, 0, 2, 2)
    events.stored(REQUEST, 2, 3, 1)
    events.evicted(REQUEST.chain[:8])
    first, second, third, gone = read(events)
    assert isinstance(first, Stored)
    assert isinstance(second, Stored)
    assert isinstance(third, Stored)
    assert [first.hashes, second.hashes, third.hashes] == [[11], [KEYS[1]], [13]]
    assert (first.parent, second.parent, third.parent) == (0, 11, KEYS[1])
    assert list(second.tokens) == list(range(16, 32))
    assert (first.extra_keys, second.extra_keys, first.session) == ([["s"]], None, "")
    assert gone == Removed([11], Tier.HBM, None)
