import pytest

from kvproxy.core.declined import WAIT_MAX_S, outcome_of, said
from kvproxy.core.life_cycle import Evidence


@pytest.mark.parametrize(
    ("status", "after", "told"),
    [
        (200, b"7", (Evidence.ANSWERED, 0.0)),
        (429, b"7", (Evidence.ANSWERED, 7.0)),
        (503, b"7", (Evidence.FAILED, 7.0)),
        (500, b"7", (Evidence.FAILED, 0.0)),
        (429, b"86400", (Evidence.ANSWERED, WAIT_MAX_S)),
        (429, b"9" * 400, (Evidence.ANSWERED, WAIT_MAX_S)),
        (429, b"", (Evidence.ANSWERED, 0.0)),
        (429, b"-1", (Evidence.ANSWERED, 0.0)),
        (429, b"1.5", (Evidence.ANSWERED, 0.0)),
        (429, b"\xb2", (Evidence.ANSWERED, 0.0)),
        (429, b"Fri, 31 Dec 1999 23:59:59 GMT", (Evidence.ANSWERED, 0.0)),
        (404, b"", (Evidence.ANSWERED, 0.0)),
    ],
)
def test_what_answers_say(status: int, after: bytes, told: tuple[Evidence, float]) -> None:
    assert said(status, [(b"Content-Length", b"0"), (b"Retry-After", after)]) == told
    assert said(status, [])[1] == 0.0


def test_what_answers_are_called() -> None:
    named = {200: "ok", 304: "ok", 400: "refused", 404: "refused", 429: "upstream_declined"}
    named |= dict.fromkeys((500, 503, 599), "upstream_error")
    assert {status: outcome_of(status) for status in named} == named
