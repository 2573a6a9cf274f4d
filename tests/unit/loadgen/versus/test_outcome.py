from rich.console import Console

from loadgen.run_values import RunResult
from loadgen.sample import Sample
from loadgen.versus.outcome import judge, table
from tests.support.samples import sample


def run(samples: list[Sample], valid: bool = True) -> RunResult:
    return RunResult({}, {"client": {"valid": valid}}, samples)


def made(ttft_s: float, cached: int) -> list[Sample]:
    return [
        sample(conversation=f"t{n}-1-0", trace=f"t{n}", ttft_s=ttft_s + n / 10, e2e_s=ttft_s + 1,
               cached_tokens=cached)
        for n in range(8)
    ]  # fmt: skip


def test_arms_are_held_against_the_first() -> None:
    found = judge({"rr": [run(made(2.0, 450))], "kv": [run(made(1.0, 900), valid=False)]}, 16)
    first, second = found
    apart = second.differences["ttft_mean_s"]
    assert apart is not None
    assert (round(apart.low, 6), round(apart.high, 6), apart.sure) == (-1.0, -1.0, True)
    assert (first.attained, second.attained) == (0.5, 1.0)
    assert (first.stretch_p50, second.stretch_p50, second.jain) == (1.5, 1.0, 1.0)
    assert second.as_json()["policy"] == "kv"
    console = Console(width=160, record=True)
    console.print(table(found))
    text = console.export_text()
    assert "kv INVALID" in text
    assert "1.35 s [-1.00 s … -1.00 s]" in text
    assert "50.0%" in text


def test_arms_without_answers() -> None:
    found = judge({"a": [run([])], "b": [run([sample(error="timeout")])]}, 16)
    assert found[1].differences["ttft_mean_s"] is None
    Console(width=160).print(table(found))


def test_what_differences_leave_out_is_told() -> None:
    whole = made(1.0, 900)
    short = [sample(conversation=s.conversation, trace=s.trace, completion_tokens=25)
             for s in whole[:6]]  # fmt: skip
    lost = sample(conversation="t6-1-0", trace="t6", error="timeout", ttft_s=None, silent_s=900.0)
    found = judge({"a": [run(whole)], "b": [run([*short, lost])]}, 16)
    assert [one.compared for one in found] == [8, 6]
    assert found[1].as_json()["compared"] == 6
    console = Console(width=160, record=True)
    console.print(table(found))
    text = console.export_text()
    for row in ("compared: both answered", "silent beyond p95", "answers as long as asked"):
        assert row in text
    console.print(table(judge({"a": [run(whole)], "b": [run(whole)]}, 16)))
    assert "compared: both answered" not in console.export_text()


def test_hit_rates_that_an_arm_does_not_tell_are_not_zero() -> None:
    silent = [sample(conversation=s.conversation, cached_tokens=None) for s in made(1.0, 900)]
    found = judge({"a": [run(made(1.0, 900))], "b": [run(silent)]}, 16)
    assert found[1].differences["hit_rate_mean"] is None
    assert found[1].attained is None
