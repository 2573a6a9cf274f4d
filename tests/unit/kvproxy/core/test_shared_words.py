import contextlib

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvproxy.core.shared_words import (
    KEY_BYTES,
    Bound,
    Lessons,
    Loads,
    Mark,
    ReplicaLoad,
    Spelt,
    Told,
    WordError,
    bound_bytes,
    bound_from,
    lessons_bytes,
    loads_bytes,
    marks_of,
    message_from,
    session_key,
    spelt_bytes,
    told_head,
)
from kvproxy.core.types import Identity, Learned
from tests.support.makers import numbered_chain

MARKS = st.builds(Mark, st.integers(0, 2**39), st.integers(0, 2**64 - 1))
BOUNDS = st.builds(
    Bound,
    st.text(max_size=60),
    st.text(max_size=60),
    st.integers(0, 2**39),
    st.lists(MARKS, max_size=8).map(tuple),
    st.floats(0, 1e12),
)
ROWS = st.builds(
    ReplicaLoad, st.text(max_size=9), st.integers(0, 99), st.integers(0, 99), st.floats(0, 1e6)
)


@given(st.binary(min_size=KEY_BYTES, max_size=KEY_BYTES), st.integers(0, 2**60), BOUNDS)
def test_bindings_come_back(key: bytes, version: int, bound: Bound) -> None:
    assert bound_from(bound_bytes(bound)) == bound
    data = told_head(key) + f"{version} ".encode() + bound_bytes(bound)
    assert message_from(data) == Told(key, version, bound)


@given(st.text(max_size=9), st.lists(ROWS, max_size=5).map(tuple), st.binary(max_size=99))
def test_loads_and_spellings_come_back(
    origin: str, rows: tuple[ReplicaLoad, ...], spelling: bytes
) -> None:
    assert message_from(loads_bytes(Loads(origin, rows))) == Loads(origin, rows)
    spelt = Spelt(b"s" * 8, b"d" * 16, b"{" + spelling)
    assert message_from(spelt_bytes(spelt)) == spelt
    lessons = Lessons(origin, (Learned("r0", 2**64 - 1, 100, 50, 0.5),))
    assert message_from(lessons_bytes(lessons)) == lessons


@given(st.binary(max_size=200))
def test_whatever_else_comes_is_refused(data: bytes) -> None:
    for prefix in (b"", b"b", b"l", b"r", b"b" + bytes(16) + b"7 "):
        with contextlib.suppress(WordError):
            assert isinstance(message_from(prefix + data), Told | Loads | Spelt | Lessons)


@pytest.mark.parametrize(
    "bound", [["a", "r", -1, []], ["a", "r", 1, [[1, 2]] * 17], ["a" * 300, "r", 1, []], {"a": 1}]
)
def test_a_binding_out_of_bounds_is_refused(bound: object) -> None:
    with pytest.raises(WordError):
        bound_from(msgspec.msgpack.encode(bound))


def test_keys_differ_by_every_part_and_by_namespace() -> None:
    identities = [
        Identity("t", "m", "s", "a"),
        Identity("t2", "m", "s", "a"),
        Identity("t", "m2", "s", "a"),
        Identity("t", "m", "s2", "a"),
        Identity("t", "m", "s", "a2"),
        Identity("t", "m", "sa", ""),
        Identity("t\0", "m", "s", "a"),
    ]
    keys = {session_key(identity, "n") for identity in identities}
    keys |= {session_key(identity, "n2") for identity in identities}
    assert len(keys) == 14
    assert all(len(key) == KEY_BYTES for key in keys)


def test_marks_are_near_the_end() -> None:
    chain = numbered_chain(100)
    marks = marks_of(chain)
    assert [mark.blocks for mark in marks] == [68, 84, 92, 96, 98, 99, 100]
    assert all(chain.hashes[mark.blocks - 1] == mark.hash for mark in marks)
    assert [mark.blocks for mark in marks_of(numbered_chain(2))] == [1, 2]
    assert marks_of(numbered_chain(0)) == ()
