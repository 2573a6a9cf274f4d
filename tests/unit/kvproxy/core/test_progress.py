import pytest

from kvproxy.core.progress import Progress


@pytest.mark.parametrize(
    ("running", "work", "expected_s"),
    [
        ([1, 1, 1], [5.0, 5.0, 5.0], 20.0),
        ([1, 1, 1], [5.0, 5.0, 6.0], 0.0),
        ([1, 0, 1], [5.0, 5.0, 5.0], 10.0),
        ([0, 0, 0], [5.0, 5.0, 5.0], 0.0),
        ([1, 1, 1], [None, None, None], 0.0),
    ],
)
def test_only_work_that_is_there_and_not_done_is_a_stall(
    running: list[int], work: list[float | None], expected_s: float
) -> None:
    progress = Progress()
    for index, (requests, done) in enumerate(zip(running, work, strict=True)):
        stalled_s = progress.stalled_s(requests, done, 100.0 + 10.0 * index)
    assert stalled_s == expected_s
