from kvproxy.core.silence import Silence


def test_it_is_told_once_and_ends_with_what_was_missed() -> None:
    silence = Silence()
    for told in ([False] * 49 + [True], [False] * 60):
        assert [silence.unannounced("r") for _ in told] == told
    silence.announced("r")
    assert [silence.unannounced("r") for _ in range(50)].count(True) == 1
    assert not silence.unannounced("other")


def test_figures_that_are_missing_count_apart() -> None:
    silence = Silence()
    assert [silence.unreported("r") for _ in range(25)].index(True) == 19
    silence.announced("r")
    assert not silence.unreported("r"), "it goes on"
    silence.reported("r")
    silence.forget("r")
    assert [silence.unreported("r") for _ in range(20)].index(True) == 19


def test_streams_without_any_figures_count_until_one_has_some() -> None:
    silence = Silence()
    for figures in (silence.counted, silence.counted):
        assert not any(silence.uncounted("r") for _ in range(49))
        figures("r")
    assert [silence.uncounted("r") for _ in range(90)].count(True) == 1
    silence.forget("r")
    assert [silence.uncounted("r") for _ in range(50)].index(True) == 49
