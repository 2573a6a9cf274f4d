from kvproxy.core.discovered import from_addresses, from_slices, selected
from tests.support.fake_kubernetes import endpoint, slice_of


def test_addresses_are_sorted_and_each_is_there_once() -> None:
    found = from_addresses("http", [("10.0.0.2", 1), ("::1", 1), ("10.0.0.1", 1), ("10.0.0.2", 1)])
    assert found == ["http://10.0.0.1:1", "http://10.0.0.2:1", "http://[::1]:1"]


def test_endpoints_that_terminate_are_left_out_and_pods_say_the_rest() -> None:
    ends = [endpoint("a", "10.0.0.1"), endpoint("b", "10.0.0.2", terminating=True)]
    notes = {
        "kvproxy.dev/weight": "2",
        "kvproxy.dev/events-port": "5557",
        "kvproxy.dev/events-replay-port": "5558",
        "other/weight": "9",
    }
    pods = {"a": {"metadata": {"annotations": notes, "labels": {"kvproxy.dev/role": "decode"}}}}
    assert from_slices([slice_of(ends, 8000)], pods, "", "kvproxy.dev/") == [
        {
            "url": "http://10.0.0.1:8000",
            "id": "a",
            "weight": "2",
            "role": "decode",
            "events_endpoint": "tcp://10.0.0.1:5557",
            "events_replay_endpoint": "tcp://10.0.0.1:5558",
        }
    ]


def test_ports_by_name_and_slices_that_say_nothing() -> None:
    one = slice_of([{"addresses": ["10.0.0.1"]}], 8000)
    one["ports"].append({"name": "other", "port": 9})
    assert from_slices([one], {}, "other", "x/") == [
        {"url": "http://10.0.0.1:9", "id": "10.0.0.1:9"}
    ]
    assert from_slices([one], {}, "none", "x/") == []
    for empty in ({}, {"endpoints": None, "ports": None}, slice_of([{"addresses": []}], 1)):
        assert from_slices([empty], {}, "", "x/") == []
    assert from_slices([one | {"addressType": "FQDN"}], {}, "", "x/") == []


def test_a_pod_of_both_address_families_has_one_address_whichever_is_told_first() -> None:
    four = slice_of([endpoint("a", "10.0.0.1")], 1)
    six = slice_of([endpoint("a", "fd00::1")], 1) | {"addressType": "IPv6"}
    for slices in ([four, six], [six, four]):
        assert from_slices(slices, {}, "", "x/") == [{"url": "http://10.0.0.1:1", "id": "a"}]


def test_a_selector_keeps_the_endpoints_of_its_pods() -> None:
    one = slice_of([endpoint("a"), endpoint("b"), {"addresses": ["10.0.0.9"]}], 1)
    [kept] = selected(["b"], [one])
    assert [end["targetRef"]["name"] for end in kept["endpoints"]] == ["b"]
