import pytest

from loadgen.ramp.slo import Limit, Observed, Slo, parse_limit

SLO = Slo((Limit("ttft_s", 2.0), Limit("ttft_s", 8.0, 16_000), Limit("e2e_s", 20.0)))


def request(**fields: object) -> Observed:
    return Observed(**{"conversation": "c", "due_s": 10.0} | fields)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("fields", "now", "met"),
    [
        ({}, 11.0, None),
        ({}, 12.1, False),  # nobody has heard a token for longer than the limit
        ({"first_token_s": 11.0}, 25.0, None),
        ({"first_token_s": 11.0}, 30.1, False),
        ({"first_token_s": 13.0}, 13.0, False),
        ({"first_token_s": 11.0, "end_s": 12.0}, 99.0, True),
        ({"first_token_s": 11.0, "end_s": 31.0}, 31.0, False),
        ({"first_token_s": 11.0, "end_s": 12.0, "failed": True}, 12.0, False),
        ({"uncached_tokens": 16_000}, 17.0, None),
        ({"uncached_tokens": 16_000}, 18.1, False),
    ],
)
def test_a_request_is_judged_when_its_fate_is_sealed(
    fields: dict[str, object], now: float, met: bool | None
) -> None:
    assert SLO.met(request(**fields), now) is met


def test_time_between_tokens_is_known_at_the_end() -> None:
    slo = Slo((Limit("itl_s", 0.05),))
    assert slo.met(request(first_token_s=11.0), 50.0) is None
    assert slo.met(request(first_token_s=11.0, end_s=12.0, itl_s=0.06), 12.0) is False
    assert slo.met(request(first_token_s=11.0, end_s=12.0), 12.0) is True


@pytest.mark.parametrize("text", ["ttft_s=2", "ttft_s@16k=8", "itl_s=0.05"])
def test_limits_are_read_as_they_are_written(text: str) -> None:
    assert str(parse_limit(text)) == text


@pytest.mark.parametrize("text", ["ttft=2", "ttft_s", "ttft_s=fast", "ttft_s=-1", "ttft_s@x=1"])
def test_what_is_no_limit_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"is no limit|not a number|positive|not a count"):
        parse_limit(text)


def test_a_service_level_without_limits_says_nothing() -> None:
    with pytest.raises(ValueError, match="at least one limit"):
        Slo(())
