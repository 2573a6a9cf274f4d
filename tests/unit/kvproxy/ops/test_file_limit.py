import logging
import resource
from collections.abc import Iterator

import pytest

from kvproxy.ops.file_limit import raise_file_limit


@pytest.fixture
def hard() -> Iterator[int]:
    """The hard limit, with a soft one below it while the test runs."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowered = 512 if hard == resource.RLIM_INFINITY else min(512, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowered, hard))
    yield hard
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_it_is_raised_as_far_as_it_goes(hard: int, caplog: pytest.LogCaptureFixture) -> None:
    assert raise_file_limit(1) == hard
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == (hard, hard)
    assert not caplog.records


def test_too_few_are_told_of(
    hard: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(which: int, limits: tuple[int, int]) -> None:
        raise ValueError("not allowed to raise maximum limit")

    monkeypatch.setattr(resource, "setrlimit", refuse)
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    with caplog.at_level(logging.WARNING):
        assert raise_file_limit(soft) == soft
    [record] = caplog.records
    assert f"may open {soft} files, and {soft} connections take up to" in record.getMessage()
    monkeypatch.undo()
