from loadgen.ramp.classic import ClassicRule
from loadgen.run_values import Progress, RunSettings
from loadgen.sample import Sample


def test_the_key_is_not_written_down() -> None:
    settings = RunSettings("http://x", api_key="secret")
    assert "secret" not in repr(settings) + str(settings.public())
    assert settings.public()["users"] == 8


def test_conversations_are_recycled_when_there_is_a_goal() -> None:
    assert not RunSettings("u").recycles
    assert RunSettings("u", requests=1).recycles
    assert RunSettings("u", duration_s=1.0).recycles
    assert RunSettings("u", ramp=ClassicRule(1.0, 2)).recycles


def test_what_is_flying_is_in_flight() -> None:
    progress = Progress(0.0, 2)
    progress.flying[1] = Sample("c", "t", 0)
    assert progress.in_flight == 1
