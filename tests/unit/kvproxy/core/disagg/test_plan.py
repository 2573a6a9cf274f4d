from kvproxy.core.disagg.choice import Choice, Mode, Terms
from kvproxy.core.disagg.connectors import Connector, Peer
from kvproxy.core.disagg.plan import Disagg
from kvproxy.core.disagg.transfer_rate import TransferRate
from kvproxy.core.score import Asked, Match, Weights, score
from tests.support.makers import make_replica

ASKED = Asked(50_000, None, Weights(), 100.0, lambda idle_s: 0.0)


def plan(*names: str) -> Disagg:
    peers = {name: Peer(name, 1) for name in names}
    return Disagg(Terms(Connector.NIXL, Mode.ALWAYS), peers, TransferRate(1e5))


def test_only_replicas_with_a_connector_take_part() -> None:
    replicas = [make_replica(name) for name in "abc"]
    assert plan("a", "c").able(replicas) == [replicas[0], replicas[2]]


def test_a_replica_without_one_answers_whole() -> None:
    here, there = make_replica("d"), make_replica("p")
    whole = Choice(0, score(ASKED, here, Match.NONE), None)
    pair = [(there, Match.NONE)]
    assert plan("p").choose(ASKED, [here], [Match.NONE], pair, whole) is whole
    assert plan("p", "d").choose(ASKED, [here], [Match.NONE], [], whole) is whole
    assert plan("p", "d").choose(ASKED, [here], [Match.NONE], pair, whole).remote is not None
