from kvproxy.core.disagg.choice import Choice, Mode, Terms
from kvproxy.core.disagg.connectors import Connector, Peer
from kvproxy.core.disagg.plan import Disagg
from kvproxy.core.disagg.transfer_rate import TransferRate
from kvproxy.core.replica import Replica
from kvproxy.core.score import Asked, Match, Weights, score
from tests.support.makers import make_replica

ASKED = Asked(50_000, None, Weights(), 100.0, lambda idle_s: 0.0)


def joining(name: str) -> Replica:
    replica = make_replica(name)
    replica.peer = Peer(name, 1)
    return replica


def test_a_replica_without_a_connector_answers_whole() -> None:
    plan = Disagg(Terms(Connector.NIXL, Mode.ALWAYS), TransferRate(1e5))
    pair = [(joining("p"), Match.NONE)]
    for here, apart in ((make_replica("d"), False), (joining("d"), True)):
        whole = Choice(0, score(ASKED, here, Match.NONE), None)
        assert plan.choose(ASKED, [here], [Match.NONE], [], whole) is whole
        choice = plan.choose(ASKED, [here], [Match.NONE], pair, whole)
        assert (choice.remote is not None) is apart
