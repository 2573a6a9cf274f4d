import pytest

from kvproxy.core.types import Chain, Identity, Tier
from tests.support.makers import make_chain


def test_an_empty_chain_ends_at_its_root() -> None:
    assert Chain(7).end == 7
    assert len(Chain(7)) == 0


def test_a_beginning_is_a_chain_of_its_own() -> None:
    chain = make_chain("a", "b", root=3)
    assert chain.until(0).end == 3
    assert chain.until(1) == make_chain("a", root=3)
    copied = chain.until(2)
    assert copied == chain
    copied.hashes.append(1)
    assert copied.end == 1 != chain.end
    assert len(chain) == 2


def test_the_key_is_exact_and_without_evidence() -> None:
    one = Identity("t", "m", "s", "a", "p", "header:x")
    assert one.key == Identity("t", "m", "s", "a", "other", "body:y").key == ("t", "m", "s", "a")


def test_values_do_not_change() -> None:
    with pytest.raises(AttributeError):
        Identity("t", "m", "s").session = "x"  # type: ignore[misc]


def test_tiers_are_listed_fastest_first() -> None:
    assert list(Tier) == ["hbm", "dram", "disk", "remote"]


def test_a_trimmed_chain_is_the_same() -> None:
    chain = make_chain("a", "b", "c")
    chain.trim()
    assert chain == make_chain("a", "b", "c")
