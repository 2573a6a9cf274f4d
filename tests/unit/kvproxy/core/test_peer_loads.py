from kvproxy.core.peer_loads import PeerLoads, own_loads
from kvproxy.core.shared_words import Loads, ReplicaLoad
from tests.support.makers import make_replica


def test_loads_of_all_proxies_add_up_and_lapse() -> None:
    replicas = [make_replica("r0"), make_replica("r1")]
    peers = PeerLoads(3.0)
    peers.told(Loads("a", (ReplicaLoad("r0", 2, 1, 1.5),)), 0.0)
    peers.told(Loads("b", (ReplicaLoad("r0", 0, 2, 2.0), ReplicaLoad("gone", 1, 1, 9.0))), 2.0)
    peers.apply(replicas, 2.0)
    assert (replicas[0].load.foreign_running, replicas[0].load.foreign_waiting) == (2, 3)
    assert replicas[0].load.queue_s(2.0) == 3.5
    assert replicas[1].load.queue_s(2.0) == 0.0
    peers.apply(replicas, 4.0)
    assert replicas[0].load.queue_s(4.0) == 2.0
    assert len(peers) == 1
    assert (peers.alive(4.0), peers.alive(9.0)) == ({"b"}, set())
    peers.apply(replicas, 9.0)
    assert replicas[0].load.queue_s(9.0) == 0.0


def test_own_loads_are_what_is_owed_here() -> None:
    replicas = [make_replica("r0"), make_replica("r1")]
    load = replicas[0].load
    load.peers(5, 5, 9.0)
    first = load.reserve("r0", 2.0, 10.0)
    load.reserve("r0", 3.0, 10.0)
    assert own_loads("me", replicas, 11.0) == Loads("me", (ReplicaLoad("r0", 0, 2, 4.0),))
    load.first_token(first, 12.0)
    assert own_loads("me", replicas, 12.0) == Loads("me", (ReplicaLoad("r0", 1, 1, 3.0),))


def test_proxies_are_bounded() -> None:
    peers = PeerLoads(3.0)
    for number in range(1000):
        peers.told(Loads(str(number), ()), 0.0)
    assert len(peers) == 256
