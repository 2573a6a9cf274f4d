import pytest

from kvproxy.core.errors import ProxyError
from kvproxy.core.response_homes import Kept, ResponseHomes, followed, id_asked_for, id_in
from kvproxy.core.types import Identity
from tests.support.shared import shared_path

KEPT = Kept("t", "r1", "s")


def test_a_response_is_found_where_it_was_given() -> None:
    homes = ResponseHomes(10)
    homes.keep("resp_1", KEPT)
    assert homes.find("resp_1", "t") == KEPT
    assert homes.find("resp_2", "t") is None


def test_what_is_one_tenants_does_not_exist_for_another() -> None:
    homes = ResponseHomes(10)
    homes.keep("resp_1", KEPT)
    with pytest.raises(ProxyError, match="'resp_1' not found") as raised:
        homes.find("resp_1", "other")
    assert (raised.value.code, raised.value.status) == ("response_not_found", 404)


def test_the_longest_unused_goes_first() -> None:
    homes = ResponseHomes(2)
    homes.keep("resp_1", KEPT)
    homes.keep("resp_2", KEPT)
    homes.find("resp_1", "t")
    homes.keep("resp_3", KEPT)
    assert len(homes) == 2
    assert homes.find("resp_2", "t") is None
    assert homes.find("resp_1", "t") == KEPT


def test_ids_of_captured_answers() -> None:
    folder = shared_path("vllm-samples", "http")
    for name in ("responses_1st", "responses_2nd", "responses_stream"):
        found = id_in((folder / f"{name}.body").read_bytes())
        assert found.startswith("resp_")
        assert len(found) == 21
    assert id_in(b'{"id":"chatcmpl-1"}') == id_in(b"") == id_in(b'{"id":"resp_"}') == ""
    assert id_in(b" " * 5000 + b'{"id":"resp_1"}') == ""


@pytest.mark.parametrize(
    ("path", "asked"),
    [
        ("/v1/responses/resp_1", "resp_1"),
        ("/v1/responses/resp_1/cancel", "resp_1"),
        ("/v1/responses", ""),
        ("/v1/responses/", ""),
        ("/v1/chat/completions", ""),
    ],
)
def test_requests_about_a_response(path: str, asked: str) -> None:
    assert id_asked_for(path) == asked


def test_turns_that_name_only_the_one_before_are_one_conversation() -> None:
    by_id = Identity("t", "m", "resp_9", evidence="body:previous_response_id")
    assert followed(by_id, KEPT).session == "s"
    assert followed(by_id, None) == by_id
    by_header = Identity("t", "m", "mine", evidence="header:thread-id")
    assert followed(by_header, KEPT) == by_header
