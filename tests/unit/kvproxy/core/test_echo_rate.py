from kvproxy.core.echo_rate import EchoRate


def test_it_is_believed_once_seen_and_no_more_when_it_mostly_fails() -> None:
    rate = EchoRate()
    assert not rate.found_again("m")
    rate.saw("m", again=True)
    assert rate.found_again("m")
    assert not rate.found_again("other")
    rate.saw("m", again=False)
    rate.saw("m", again=False)
    assert not rate.found_again("m")


def test_models_are_bounded() -> None:
    rate = EchoRate()
    for number in range(3000):
        rate.saw(f"m{number}", again=True)
    assert len(rate._shares) <= 1024
