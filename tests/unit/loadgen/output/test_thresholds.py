import pytest

from loadgen.output.thresholds import parse_threshold

SUMMARY = {
    "ttft_p95_s": 0.9, "error_rate": 0.02, "hit_rate_reported": None, "slo": {"attainment": 0.94},
    "errors": {},
}  # fmt: skip


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("ttft_p95_s>0.8", "it is 0.9"),
        ("ttft_p95_s>0.9", None),
        ("ttft_p95_s >= 0.9", "it is 0.9"),
        ("error_rate>1%", "it is 0.02"),
        ("slo.attainment<95%", "it is 0.94"),
        ("slo.attainment<=0.9", None),
        ("hit_rate_reported<0.5", "it was not measured"),
        ("errors.timeout>0", None),
        ("errors.timeout<1", "it is 0"),
    ],
)
def test_a_figure_crosses_its_threshold_or_does_not(text: str, why: str | None) -> None:
    crossed = parse_threshold(text).crossed(SUMMARY)
    assert crossed == (why and f"{text}: {why}")


@pytest.mark.parametrize("text", ["ttft", "ttft_p95_s=1", "ttft_p95_s>fast", "ttft_p95_s>1-1"])
def test_what_is_no_threshold(text: str) -> None:
    with pytest.raises(ValueError, match="is no threshold"):
        parse_threshold(text)


@pytest.mark.parametrize(("text", "said"), [("ttft>1", "has no"), ("errors>1", "is no number")])
def test_what_the_summary_does_not_have(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        parse_threshold(text).crossed(SUMMARY)
