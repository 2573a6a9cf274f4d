"""Messages and frames: whatever was said is heard, however it was cut."""

from array import array

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvproxy.core import hop
from kvproxy.core.errors import ProxyError
from kvproxy.core.score import Match
from kvproxy.core.types import Chain, Identity
from tests.support.makers import make_chain

N = st.integers(1, 2**40)
TEXT = st.text("ab é\n\0", max_size=20)
MAYBE = st.none() | st.integers(0, 10**6)
CHAINS = st.lists(st.binary(min_size=1, max_size=300), max_size=5).map(lambda t: make_chain(*t))
USAGE = st.none() | st.tuples(N, N, MAYBE, MAYBE)
RESPONSE = st.none() | st.tuples(TEXT, TEXT)
PROMPT = st.none() | st.tuples(TEXT, TEXT, st.binary())
MESSAGES = st.one_of(
    st.builds(hop.Hello, TEXT, N),
    st.builds(
        hop.Place, N, st.just(("t", "m", "s", "", "", "none", 0.5)), CHAINS.map(hop.pack),
        st.lists(TEXT, max_size=3), st.integers(-100, 100), TEXT, TEXT, N, TEXT, TEXT,
    ),
    st.builds(hop.Anywhere, N, TEXT, st.lists(TEXT, max_size=3), TEXT, N, TEXT, TEXT),
    st.builds(hop.Began, N, st.booleans()),
    st.builds(hop.Done, N, st.booleans(), USAGE, PROMPT, RESPONSE),
    st.builds(hop.Abort, N, st.booleans()),
    st.builds(hop.Claim, N, st.lists(st.tuples(st.just(0), TEXT, st.binary(), st.binary()))),
)  # fmt: skip


@given(st.lists(st.lists(MESSAGES, max_size=4), max_size=5), st.data())
def test_what_is_said_is_heard_however_it_is_cut(
    said: list[list[hop.FromWorker]], data: st.DataObject
) -> None:
    wire = b"".join(bytes(hop.frame(messages)) for messages in said)
    frames, heard, at = hop.Frames(), [], 0
    while at < len(wire):
        size = data.draw(st.integers(1, len(wire) - at))
        heard += [hop.from_worker.decode(each) for each in frames.feed(wire[at : at + size])]
        at += size
    assert [[type(m) for m in messages] for messages in heard] == [
        [type(m) for m in messages] for messages in said
    ]
    encode = msgspec.msgpack.encode
    assert [encode(messages) for messages in heard] == [encode(messages) for messages in said]


@given(CHAINS)
def test_chains_survive(chain: Chain) -> None:
    assert hop.unpack(hop.pack(chain)) == chain


def test_a_frame_has_a_bound() -> None:
    frames = hop.Frames(bytes_max=10)
    with pytest.raises(hop.BrokenHopError):
        frames.feed((11).to_bytes(4, "little"))


@pytest.mark.parametrize(
    "packed",
    [hop.Packed(0, b"1234567", b"", b"", b""), hop.Packed(0, bytes(8), b"", b"", b"")],
)
def test_what_is_no_chain_is_refused(packed: hop.Packed) -> None:
    with pytest.raises(hop.BrokenHopError, match="no chain"):
        hop.unpack(packed)


def test_values_become_fields_and_back() -> None:
    match = Match(3, 200, dram=50, rank=1, source="events", by_events=200)
    assert Match(*hop.match_fields(match)) == match
    identity = Identity("t", "m", "s", "a", "p", "header:x", 1.5)
    assert Identity(*hop.identity_fields(identity)) == identity
    error = ProxyError("overloaded", "too much", param="model", retry_after_s=2.0)
    back = hop.error_of(hop.refused(7, error))
    assert (back.code, back.message, back.param, back.retry_after_s) == (
        "overloaded",
        "too much",
        "model",
        2.0,
    )


def test_nothing_but_numbers_of_a_prompt_goes_over() -> None:
    packed = hop.pack(make_chain("a secret text " * 50))
    assert b"secret" not in msgspec.msgpack.encode(packed)
    assert array("Q", packed.hashes)
