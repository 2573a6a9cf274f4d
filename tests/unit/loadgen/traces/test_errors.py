from loadgen.traces.errors import TraceError


def test_the_message_is_the_error() -> None:
    assert str(TraceError("x.json: no")) == "x.json: no"
