from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from kvproxy.core import resume
from kvproxy.core.before import NONE
from kvproxy.core.resume import Begun, Point, ResumePoints, hash_first, hash_on, near
from kvproxy.core.types import Chain

NOTHING = Point(0, 0, b"", (0, 0), 0, NONE, None, b"", Chain(), 0, [])


def body_of(seed: int, length: int) -> bytes:
    return (f"{seed:08}".encode() * (length // 8 + 1))[:length]


def point_of(body: bytes, offset: int) -> Point:
    hashed = hash_first(body, offset, (0, 0)).digest()
    return replace(NOTHING, offset=offset, digest=hashed, near=near(body, offset, (0, 0)))


def found_in(points: ResumePoints, scope: str, body: bytes) -> Point | None:
    begun = points.find(scope, body)
    return begun.point if begun is not None else None


def test_a_point_is_found_in_any_body_that_begins_alike() -> None:
    points = ResumePoints(10)
    body = body_of(1, 5000)
    point = point_of(body, 3000)
    points.file("t", body, point, NOTHING)
    assert found_in(points, "t", body[:3000]) is point
    assert found_in(points, "t", body[:3000] + b"x" * 100_000) is point
    assert found_in(points, "t", body[:2999]) is None
    assert found_in(points, "t", b"y" + body[1:]) is None
    assert found_in(points, "t", body[:2500] + b"y" + body[2501:]) is None


def test_scopes_share_nothing() -> None:
    points = ResumePoints(10)
    body = body_of(1, 2000)
    points.file("chat\0a", body, point_of(body, 1000), NOTHING)
    assert found_in(points, "chat\0b", body) is None


def test_the_longest_of_different_sizes_is_found() -> None:
    points = ResumePoints(10)
    body = body_of(1, 9000)
    for offset in (5000, 600, 2500):
        points.file("t", body, point_of(body, offset), NOTHING)
    found = [found_in(points, "t", body[:length]) for length in (599, 700, 2600, 9000)]
    assert [point.offset if point else 0 for point in found] == [0, 600, 2500, 5000]


def test_a_turn_replaces_the_point_it_continued() -> None:
    points = ResumePoints(10)
    body = body_of(1, 9000)
    point = NOTHING
    for offset in (600, 1200, 2400, 8000):
        continued, point = point, point_of(body, offset)
        points.file("t", body, point, instead_of=continued)
    assert len(points) == 1
    assert found_in(points, "t", body[:7000]) is None
    assert found_in(points, "t", body) is point


def test_bodies_too_short_to_matter_are_not_kept() -> None:
    points = ResumePoints(10)
    body = body_of(1, 600)
    points.file("t", body, point_of(body, 511), NOTHING)
    assert len(points) == 0
    assert found_in(points, "t", body) is None
    assert found_in(points, "t", b"") is None


@given(
    st.lists(st.tuples(st.integers(0, 20), st.integers(0, 3000), st.booleans()), max_size=60),
    st.integers(0, 12),
)
def test_bounded_and_never_wrong(asked: list[tuple[int, int, bool]], max_points: int) -> None:
    points = ResumePoints(max_points)
    for seed, offset, replaces in asked:
        body = body_of(seed, 3000)
        found = found_in(points, "t", body)
        assert found is None or point_of(body, found.offset).digest == found.digest
        continued = found if replaces and found is not None else NOTHING
        points.file("t", body, point_of(body, offset), continued)
        assert len(points) <= max_points
        assert len(points) == sum(len(filed) for filed in points._filed.values())
        assert all(0 < len(filed) <= 8 for filed in points._filed.values())


def test_a_body_that_changed_nothing_is_known_farther() -> None:
    points, body = ResumePoints(10), body_of(1, 3000)
    ahead = replace(point_of(body, 1500), elements=3)
    point = replace(point_of(body, 1000), ahead=ahead)
    points.file("t", body, point, NOTHING)
    other = body[:1400] + b"x" + body[1401:]
    for asked, expected in ((body, ahead), (other, point), (body[:1499], point)):
        begun = points.find("t", asked)
        assert begun is not None
        assert (begun.point, begun.filed) == (expected, point)
        assert begun.hashed.digest() == expected.digest
    far = replace(point, ahead=replace(ahead, elements=100))
    points.file("t", body, far, point)
    assert found_in(points, "t", body) is far


def test_what_is_skipped_counts_for_nothing() -> None:
    points, skip = ResumePoints(10), (100, 140)
    body = body_of(1, 3000)
    other = body[:100] + b"x" * 40 + body[140:]
    hashed = hash_first(body, 2000, skip).digest()
    near_it = near(body, 2000, skip)
    point = replace(NOTHING, offset=2000, digest=hashed, near=near_it, skip=skip)
    points.file("t", body, point, NOTHING)
    assert found_in(points, "t", other) is point
    assert found_in(points, "t", body[:99] + b"x" + body[100:]) is None


@given(st.binary(max_size=9000), st.integers(0, 9000), st.integers(0, 9000))
def test_hashing_goes_on_where_it_left_off(body: bytes, first: int, second: int) -> None:
    first, second = sorted((min(first, len(body)), min(second, len(body))))
    begun = Begun(replace(NOTHING, offset=first), hash_first(body, first, (0, 0)), NOTHING)
    on = [hash_on(body, second, begun).digest() for _ in range(2)]
    assert on == [hash_first(body, second, (0, 0)).digest()] * 2


def test_conversations_that_differ_early_alone_are_told_apart_at_one_look(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    points, bodies = ResumePoints(100), [b"%03d" % number + b"x" * 20_000 for number in range(20)]
    filed = [point_of(body, 15_000) for body in bodies]
    for body, point in zip(bodies, filed, strict=True):
        points.file("t", body, point, NOTHING)
    looked: list[str] = []
    for name in ("near", "hash_first"):
        real = getattr(resume, name)

        def noted(*args: object, name: str = name, real: Callable[..., object] = real) -> object:
            looked.append(name)
            return real(*args)

        monkeypatch.setattr(resume, name, noted)
    assert found_in(points, "t", bodies[0]) is filed[0]
    assert looked == ["near", "hash_first"]
