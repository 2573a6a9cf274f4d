from msgspec.structs import replace

from kvproxy.core.disagg.choice import Remote
from kvproxy.core.placement import Placing
from kvproxy.core.score import Match, Score
from kvproxy.core.types import Identity
from tests.support.makers import make_chain, make_replica

HERE, THERE = make_replica("here"), make_replica("there")
PLACING = Placing(
    Identity("t", "m", "s"), make_chain("x" * 640), HERE, Match.NONE, 160, Score.FREE, "id-1"
)
REMOTE = Remote(THERE, Match(5, 80), 0.5, 160, pulls=False)


def test_a_whole_turn_has_one_part() -> None:
    assert PLACING.prefill_leg() is None


def test_what_is_only_read_computes_nothing() -> None:
    assert replace(PLACING, remote=REMOTE._replace(pulls=True)).prefill_leg() is None


def test_the_part_that_another_replica_computes() -> None:
    leg = replace(PLACING, remote=REMOTE).prefill_leg()
    assert leg is not None
    assert (leg.replica, leg.match, leg.remote) == (THERE, Match(5, 80), None)
    assert leg.score.prefill_s == 0.5
    assert leg.identity.session == "", "the conversation does not live there"
    assert leg.request_id == "id-1-prefill", "engines tell blocks apart by it"
