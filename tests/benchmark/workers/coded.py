"""Processor time of what a prompt's question and its answer are turned into and read from, on both
sides, without sockets: `python -m tests.benchmark.workers.coded`."""

import statistics
import time

from kvproxy.core import hop
from kvproxy.core.score import Match, Score
from kvproxy.core.turn import Turn
from kvproxy.core.types import Identity
from tests.benchmark.count import large, small
from tests.support.hops import make_record

_IDENTITY = Identity("f" * 32, "mock", "session-1", evidence="header:x-session-id")
_REQUEST = "0123456789abcdef0123456789abcdef"


def there_and_back(turn: Turn) -> None:
    place = hop.Place(
        *(1, hop.identity_fields(_IDENTITY), hop.pack(turn.chain), [], 0, _REQUEST, "", 0, "f", "")
    )
    [payload] = hop.Frames().feed(bytes(hop.frame([hop.Began(1, True), place])))
    for message in hop.from_worker.decode(payload):
        if isinstance(message, hop.Place):
            hop.identity_of(message.identity)
            hop.unpack(message.chain)
    match, step = hop.match_fields(Match(7, 224)), (0, None, 2, ("grown", 1, 7))
    stake = ("", 1, 230, 224, "127.0.0.1:9000")
    placed = hop.Placed(
        *(1, "127.0.0.1:9000", match, tuple(Score.FREE), 230, 0.0, step, stake, False, "s", "", "")
    )
    [payload] = hop.Frames().feed(bytes(hop.frame([placed, hop.Handled(0.0001)])))
    for answer in hop.from_placement.decode(payload):
        if isinstance(answer, hop.Placed):
            Match(*answer.match), Score(*answer.score)


def coded_us(body: bytes, count: int = 300) -> float:
    turn = make_record(body).turn
    assert turn is not None
    took = []
    for _ in range(count):
        began = time.perf_counter_ns()
        there_and_back(turn)
        took.append((time.perf_counter_ns() - began) / 1e3)
    return statistics.median(took)


def said() -> str:
    figures = [coded_us(small(1)), coded_us(large(1, 0))]
    return "written and read on both sides, us: 1 KB {:.0f}, 400 KB {:.0f}".format(*figures)


if __name__ == "__main__":
    print(said())
