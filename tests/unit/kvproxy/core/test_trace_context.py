import os
from itertools import chain, repeat

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvproxy.core.trace_context import (
    Headers,
    Parent,
    is_sampled,
    new_id,
    parent_of,
    told,
    traceparent,
)

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
GIVEN = f"00-{TRACE}-{SPAN}-01"


def of(value: str, *states: str, name: str = "traceparent") -> Parent | None:
    lines = [(b"tracestate", state.encode()) for state in states]
    return parent_of([(b"host", b"a"), (name.encode(), value.encode()), *lines])


def test_what_a_client_says_is_read() -> None:
    assert of(GIVEN) == Parent(TRACE, SPAN, 1)
    assert of(GIVEN, name="TraceParent") == Parent(TRACE, SPAN, 1)
    assert of(f"  {GIVEN}\t") == Parent(TRACE, SPAN, 1)
    parent = of(GIVEN[:-2] + "00")
    assert parent is not None
    assert not parent.sampled


def test_of_the_flags_those_are_kept_whose_meaning_is_known() -> None:
    parent = of(GIVEN[:-2] + "ff")
    assert parent is not None
    assert (parent.flags, parent.sampled) == (3, True)


@pytest.mark.parametrize("more", ["", "-", "-what-the-future-brings"])
def test_later_versions_are_read_as_far_as_they_are_known(more: str) -> None:
    assert of(f"cc{GIVEN[2:]}{more}") == Parent(TRACE, SPAN, 1)


@pytest.mark.parametrize(
    "value",
    [
        "",
        "00",
        GIVEN.upper(),
        GIVEN[:-1],
        GIVEN + "-",
        GIVEN + "-more",
        GIVEN + "x",
        "ff" + GIVEN[2:],
        "0x" + GIVEN[2:],
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE}-{SPAN[:-1]}-01",
        f"00-{TRACE[:-1]}g-{SPAN}-01",
        f"cc{GIVEN[2:]}.future",
        f"cc{GIVEN[2:]}-{'a' * 65536}",
        GIVEN.replace("-", "_"),
        GIVEN + "\n",
        "\u0660" * 55,
    ],
)
def test_anything_else_begins_a_new_trace(value: str) -> None:
    assert of(value, "a=1") is None


def test_two_parents_are_none() -> None:
    assert parent_of([(b"traceparent", GIVEN.encode())] * 2) is None
    assert parent_of([]) is None


@pytest.mark.parametrize(
    ("states", "state"),
    [
        (["a=1"], "a=1"),
        (["a=1, b=2", "t@v=x y"], "a=1, b=2,t@v=x y"),
        (["a=1,,b=2"], "a=1,,b=2"),
        ([f"{'k' * 256}={'v' * 256}"], f"{'k' * 256}={'v' * 256}"),
        ([""], ""),
        (["a"], ""),
        (["A=1"], ""),
        (["a=1=2"], ""),
        (["a=\u00e4"], ""),
        ([f"{'k' * 257}=v"], ""),
        ([",".join(f"k{n}=v" for n in range(33))], ""),
        ([f"a={'v' * 256}"] * 40, ""),
    ],
)
def test_a_state_that_is_none_is_left_out(states: list[str], state: str) -> None:
    parent = of(GIVEN, *states)
    assert parent is not None
    assert parent.state == state


@given(
    st.lists(
        st.tuples(
            st.sampled_from([b"traceparent", b"Tracestate", b"x"]),
            st.one_of(
                st.binary(max_size=80),
                st.text(alphabet="0123456789abcdef-,=@ f", max_size=80).map(str.encode),
                st.just(GIVEN.encode()),
            ),
        ),
        max_size=4,
    )
)
def test_whatever_comes_is_read_or_refused_and_goes_on_as_one(headers: Headers) -> None:
    parent = parent_of(headers)
    if parent is None:
        return
    assert parent.trace_id != "0" * 32
    said = traceparent(parent.trace_id, parent.span_id, parent.flags)
    assert parent_of([(b"traceparent", said)]) == Parent(
        parent.trace_id, parent.span_id, parent.flags
    )
    sent = told(headers, said, keeps_state=bool(parent.state))
    assert parent_of(sent) == parent
    assert [pair for pair in sent if pair[0] == b"x"] == [p for p in headers if p[0] == b"x"]


def test_a_trace_that_is_not_continued_leaves_its_state_behind() -> None:
    headers = [(b"TRACEPARENT", b"no"), (b"a", b"b"), (b"TraceState", b"a=1")]
    assert told(headers, b"new", keeps_state=False) == [(b"a", b"b"), (b"traceparent", b"new")]
    kept = told(headers, b"new", keeps_state=True)
    assert kept == [(b"a", b"b"), (b"TraceState", b"a=1"), (b"traceparent", b"new")]
    assert len(headers) == 3


def test_the_share_of_traces_is_found_by_their_ids() -> None:
    ids = [os.urandom(16).hex() for _ in range(4000)]
    assert all(is_sampled(each, 1.0) for each in [*ids, "f" * 32])
    assert not any(is_sampled(each, 0.0) for each in [*ids, "0" * 32])
    few = {each for each in ids if is_sampled(each, 0.25)}
    assert 800 < len(few) < 1200
    assert few <= {each for each in ids if is_sampled(each, 0.5)}


def test_an_id_is_never_all_zeros() -> None:
    drawn = chain([bytes(8)] * 3, repeat(b"\0" * 7 + b"\1"))
    assert new_id(lambda size: next(drawn), 8) == "0000000000000001"
