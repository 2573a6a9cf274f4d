from kvproxy.adapters.ext_proc.addresses import Addresses, literal
from tests.support.makers import make_replica


def test_addresses_that_need_no_asking() -> None:
    assert literal("http://10.0.0.1:8000") == "10.0.0.1:8000"
    assert literal("http://[::1]:8000") == "[::1]:8000"
    assert literal("https://10.0.0.1") == "10.0.0.1:443"
    assert literal("http://engine:8000") is None


async def test_names_are_resolved_and_what_is_not_is_unfit() -> None:
    replicas = [
        make_replica("a", url="http://10.0.0.1:1"),
        make_replica("b", url="http://localhost:2"),
        make_replica("c", url="http://no.such.name.invalid:3"),
    ]
    addresses = Addresses(lambda: replicas)
    assert addresses.unfit(None) == {"b", "c"}
    await addresses.start()
    found = addresses.of(replicas[1])
    assert found in ("127.0.0.1:2", "[::1]:2")
    assert addresses.unfit(None) == {"c"}
    assert addresses.unfit(frozenset({found})) == {"a", "c"}
    assert addresses.unfit(frozenset()) == {"a", "b", "c"}
    await addresses.close()
