import asyncio
import io
import time

import pytest
from rich.console import Console

from loadgen.honesty import verdict
from loadgen.report import live_text, seconds, show_progress, summary_table
from loadgen.run import Progress
from loadgen.sample import Sample
from loadgen.stats import spread, summarise


def sample(**fields: object) -> Sample:
    return Sample("c", "t", 0, **fields)  # type: ignore[arg-type]


GOOD = sample(ttft_s=0.5, prompt_tokens=100, cached_tokens=80, bound_tokens=90, replica="r1")


def text_of(samples: list[Sample], loop_lag_s: float = 0.001) -> str:
    summary = summarise(samples, 16) | {"loop_lag_s": spread([0.001])}
    summary["client"] = verdict([], [loop_lag_s], 0.005) | {"cpu": 0.5, "cpu_wait": None}
    console = Console(file=io.StringIO(), width=200)
    console.print(summary_table(summary))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


@pytest.mark.parametrize(
    ("value", "text"), [(0.0123, "12.3 ms"), (0.5, "0.50 s"), (73.2, "73.2 s"), (None, "–")]
)
def test_seconds(value: float | None, text: str) -> None:
    assert seconds(value) == text


def test_the_summary_names_hits_errors_and_replicas() -> None:
    text = text_of([GOOD, sample(error="timeout")])
    assert "2 ended, 1 ok" in text
    assert "1 timeout (50.0%)" in text
    assert "reported 80.0%  bound 90.0%" in text
    assert "r1" in text


def test_a_run_without_answers_has_a_summary() -> None:
    assert "0 ended" in text_of([])


def test_a_run_whose_client_was_late_is_marked() -> None:
    assert "INVALID" not in text_of([GOOD])
    assert "INVALID: own delay p99 20.0 ms, allowed 5.0 ms" in text_of([GOOD], loop_lag_s=0.02)


def test_the_live_line() -> None:
    flying = {number: sample() for number in range(3)}
    progress = Progress(time.monotonic(), 4, 0, 0, flying, [GOOD, sample(error="timeout")], 1)
    line = str(live_text(progress, " of 9", 16))
    assert "2 of 9 requests · 4 users · 3 in flight · 1 failed · ttft p50 0.50 s" in line
    assert "hit 80.0% of 90.0% possible" in line


class Screen(io.StringIO):
    """Tells when something was shown."""

    def __init__(self) -> None:
        super().__init__()
        self.shown = asyncio.Event()

    def write(self, text: str) -> int:
        if "arm" in text:
            self.shown.set()
        return super().write(text)


async def test_a_terminal_gets_a_line_that_is_removed_at_the_end() -> None:
    screen = Screen()
    console = Console(file=screen, force_terminal=True, width=120)
    progress = Progress(time.monotonic(), 1)
    task = asyncio.create_task(show_progress(console, progress, "arm ", "", 16))
    await asyncio.wait_for(screen.shown.wait(), 10)
    task.cancel()
    await asyncio.wait([task])
    assert "\x1b[2K" in screen.getvalue().rpartition("arm")[2]


def test_quantiles_say_of_how_many_they_are() -> None:
    assert "p99 0.50 s  of 1, few for p95 and p99" in text_of([GOOD])
    assert "of 99, few for p99" in text_of([GOOD] * 99)
    assert "of 100 " in text_of([GOOD] * 100)


def test_waits_that_no_quantile_has_are_named() -> None:
    assert "silent" not in text_of([GOOD, sample(error="http_5xx", silent_s=0.1)])
    text = text_of([GOOD, sample(error="cancelled", silent_s=31.0)])
    assert "1 requests waited longer than p95 for a first token that never came, up to 31" in text


def test_answers_shorter_than_asked_are_named() -> None:
    short = sample(prompt_tokens=9, completion_tokens=30, output_tokens_asked=60)
    assert "0.0% exactly as asked; 50.0% of the tokens" in text_of([short])


def test_what_is_odd_about_a_run_is_said_where_it_shows() -> None:
    warm = sample(prompt_tokens=100, cached_tokens=90, bound_tokens=0)
    assert "more than possible: engines had this text from before" in text_of([warm])
    assert "more than possible" not in text_of([GOOD])
