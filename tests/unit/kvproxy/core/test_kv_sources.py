import msgspec
import pytest

from kvproxy.core.kv_sources import KvSource, SourceError, of_ranks, read_sglang, read_vllm

RANK = {
    "enable_kv_cache_events": True, "publisher": "zmq", "endpoint": "tcp://*:5700",
    "replay_endpoint": "tcp://127.0.0.1:5800", "topic": "kv@a@m",
}  # fmt: skip


def page(value: object) -> bytes:
    return msgspec.json.encode(value)


def test_vllm_tells_its_ranks() -> None:
    second = RANK | {"endpoint": "tcp://*:5701", "replay_endpoint": None, "topic": ""}
    assert read_vllm("r", "10.0.0.1", page({"0": RANK, "1": second})) == [
        KvSource("r", 0, "tcp://10.0.0.1:5700", "tcp://127.0.0.1:5800", "kv@a@m"),
        KvSource("r", 1, "tcp://10.0.0.1:5701", "", ""),
    ]
    assert read_vllm("r", "h", page({})) == []
    assert read_vllm("r", "h", page({"0": RANK | {"enable_kv_cache_events": False}})) == []


def test_an_endpoint_that_connects_is_named_with_its_remedy() -> None:
    with pytest.raises(SourceError, match=r"connects to tcp://1.2.3.4:5 .*tcp://\*:PORT"):
        read_vllm("r", "h", page({"0": RANK | {"endpoint": "tcp://1.2.3.4:5"}}))
    with pytest.raises(SourceError, match="set zmq"):
        read_vllm("r", "h", page({"0": RANK | {"publisher": "null"}}))


def test_sglang_has_a_port_a_rank() -> None:
    events = {"publisher": "zmq", "endpoint_host": "*", "endpoint_port_base": 5557,
              "topic": "t", "dp_size": 2, "replay_endpoint_port_base": 6557}  # fmt: skip
    assert read_sglang("r", "h", page({"kv_events": events})) == [
        KvSource("r", 0, "tcp://h:5557", "tcp://h:6557", "t"),
        KvSource("r", 1, "tcp://h:5558", "tcp://h:6558", "t"),
    ]
    elsewhere = {"publisher": "zmq", "endpoint_host": "10.9.9.9", "endpoint_port_base": 5557}
    assert read_sglang("r", "h", page({"kv_events": elsewhere})) == [
        KvSource("r", 0, "tcp://10.9.9.9:5557", "", "")
    ]
    assert read_sglang("r", "h", page({"kv_events": None})) == []


@pytest.mark.parametrize("given", [b"", b"[]", b"{", b"\xff"])
def test_pages_that_are_no_objects(given: bytes) -> None:
    with pytest.raises(SourceError):
        read_vllm("r", "h", given)
    with pytest.raises(SourceError):
        read_sglang("r", "h", given)


@pytest.mark.parametrize(
    "events",
    [{}, {"endpoint_port_base": "x"}, {"endpoint_port_base": 1, "dp_size": 0} | {"dp_size": 5000}],
)
def test_sglang_without_a_port(events: dict[str, object]) -> None:
    with pytest.raises(SourceError):
        read_sglang("r", "h", page({"kv_events": {"publisher": "zmq"} | events}))


def test_ranks_of_a_given_endpoint_are_a_port_apart() -> None:
    source = KvSource("r", 0, "tcp://10.0.0.1:5557", "tcp://10.0.0.1:5657", "t")
    assert of_ranks(source, 2) == [
        source,
        KvSource("r", 1, "tcp://10.0.0.1:5558", "tcp://10.0.0.1:5658", "t"),
    ]
    local = KvSource("r", 0, "ipc:///run/events", "", "")
    assert of_ranks(local, 1) == [local]
