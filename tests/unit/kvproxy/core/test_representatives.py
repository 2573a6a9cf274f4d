from hypothesis import given
from hypothesis import strategies as st

from kvproxy.core.representatives import First, Representatives, scope_of

KEYS = st.integers(0, 9).map(lambda n: b"canonical %d" % n)


def test_the_first_spelling_is_kept() -> None:
    kept = Representatives(10_000)
    assert kept.intern("t", b"c", b"first") == b"first"
    assert kept.intern("t", b"c", b"second") == b"first"
    assert kept.intern("t", b"other", b"second") == b"second"


def test_tenants_share_nothing() -> None:
    kept = Representatives(10_000)
    kept.intern("a", b"c", b"first")
    assert kept.intern("b", b"c", b"second") == b"second"
    assert kept.intern("", b"c", b"third") == b"third"


def test_what_does_not_fit_is_not_kept() -> None:
    kept = Representatives(250)
    assert kept.intern("t", b"c", b"x" * 51) == b"x" * 51
    assert (len(kept), kept.size_bytes) == (0, 0)
    assert kept.intern("t", b"c", b"y" * 50) == b"y" * 50
    assert (len(kept), kept.size_bytes) == (1, 250)


def test_the_least_recently_used_goes_first() -> None:
    kept = Representatives(620)
    for name in (b"a", b"b", b"c", b"a", b"d"):
        kept.intern("t", name, b"first " + name)
    assert kept.intern("t", b"a", b"again") == b"first a"
    assert kept.intern("t", b"b", b"again") == b"again"


@given(
    st.lists(st.tuples(st.sampled_from("ab"), KEYS, st.binary(max_size=300))),
    st.integers(0, 1500),
)
def test_bounded_in_bytes_and_true_to_the_first(
    asked: list[tuple[str, bytes, bytes]], max_bytes: int
) -> None:
    kept = Representatives(max_bytes)
    sent: dict[tuple[str, bytes], set[bytes]] = {}
    for tenant, canonical, spelling in asked:
        known = sent.setdefault((tenant, canonical), set())
        known.add(spelling)
        assert kept.intern(tenant, canonical, spelling) in known
        assert kept.size_bytes <= max_bytes
        assert kept.size_bytes >= 200 * len(kept)


def test_first_ones_are_told_and_those_of_others_adopted() -> None:
    kept, told = Representatives(10_000), list[First]()
    kept.tell = told.append
    kept.intern("t", b"c", b"mine")
    kept.intern("t", b"c", b"again")
    assert [first.spelling for first in told] == [b"mine"]
    assert kept.edition("t") == 0
    assert not kept.adopt(told[0])
    assert kept.adopt(told[0]._replace(spelling=b"theirs"))
    assert kept.intern("t", b"c", b"mine") == b"theirs"
    assert (kept.edition("t"), kept.edition("other")) == (1, 0)
    assert not kept.adopt(First(scope_of("t"), b"d" * 16, b"new"))
    assert kept.edition("t") == 1
    assert {first.spelling for first in kept} == {b"theirs", b"new"}
