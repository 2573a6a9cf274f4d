import gc
import weakref

import pytest

from kvproxy.core.spent import spent


class Kept:
    """Stands for a connection, say."""


def _fails(kept: Kept) -> None:
    first = ValueError("no")  # a call that keeps what it raises
    try:
        raise first
    except ValueError as raised:
        again = OSError("neither")
        raise again from raised


@pytest.mark.parametrize("dealt_with", [True, False])
def test_what_failed_calls_held_is_gone_without_the_collector(dealt_with: bool) -> None:
    kept = Kept()
    seen = weakref.ref(kept)
    gc.disable()
    try:
        try:
            _fails(kept)
        except OSError as error:
            if dealt_with:
                spent(error)
        del kept
        assert (seen() is None) is dealt_with
    finally:
        gc.enable()


def test_errors_that_name_each_other_as_their_cause() -> None:
    one, two = ValueError("one"), ValueError("two")
    for each, other in ((one, two), (two, one)):
        try:
            raise each
        except ValueError:
            each.__cause__ = other
    spent(one)
    assert one.__traceback__ is two.__traceback__ is None
