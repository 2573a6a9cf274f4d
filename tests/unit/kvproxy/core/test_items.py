import pytest

from kvproxy.core.items import Kind, item_of, kind_of, loosely_equal
from kvproxy.core.segments import segment


def packed(opening: object, text: str) -> int:
    made = segment(opening, [text.encode()])
    return item_of(made)


@pytest.mark.parametrize(
    ("opening", "kind"),
    [
        ("system", Kind.SYSTEM),
        ("developer", Kind.SYSTEM),
        ("tools", Kind.TOOL),
        ("user", Kind.USER),
        ("assistant", Kind.ASSISTANT),
        ("tool", Kind.RESULT),
        (["cache_salt", "s"], Kind.FRAME),
        ("other", Kind.FRAME),
    ],
)
def test_kinds(opening: object, kind: Kind) -> None:
    assert kind_of(packed(opening, "text")) is kind


def test_texts_differ() -> None:
    assert packed("user", "a") == packed("user", "a") != packed("user", "b")
    assert packed("user", "a") != packed("assistant", "a")


@pytest.mark.parametrize(
    ("one", "other", "alike"),
    [
        ("at 10:31 on 2026-11-24", "at 9:07 on 2027-01-02", True),
        ("Tuesday, November 3", "Friday, May 21", True),
        ("id 7f3a-01", "id 22-9c", True),
        ("be brief", "be verbose", False),
    ],
)
def test_what_looks_volatile(one: str, other: str, alike: bool) -> None:
    assert loosely_equal(packed("system", one), packed("system", other)) is alike
    assert not loosely_equal(packed("user", one), packed("user", other))
