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
