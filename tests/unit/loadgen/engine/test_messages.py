import pytest

from loadgen.engine.messages import Admitted, Finished, FirstToken, Request, Tokens


def test_every_emission_names_its_request_and_time():
    emissions = [
        Admitted("a", 1.0, 0.5, 16, 0, 10),
        FirstToken("a", 1.0),
        Tokens("a", 1.0, 3),
        Finished("a", 1.0, "stop"),
    ]
    assert {(emission.id, emission.time_s) for emission in emissions} == {("a", 1.0)}


def test_requests_are_values():
    one = Request("a", b"", 1, 1)
    assert one == Request("a", b"", 1, 1, "length")
    with pytest.raises(AttributeError):
        one.prompt_tokens = 2
