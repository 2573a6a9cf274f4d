import pytest
from pydantic import ValidationError
from pydantic_core import PydanticCustomError

from kvproxy.settings.events import EventsSettings, check_shards


@pytest.mark.parametrize(("given", "read"), [(True, "on"), (False, "off"), ("auto", "auto")])
def test_yaml_reads_a_bare_on_as_true(given: object, read: str) -> None:
    assert EventsSettings.model_validate({"enabled": given}).enabled == read


@pytest.mark.parametrize("given", ["sometimes", 1, None])
def test_other_words_are_refused(given: object) -> None:
    with pytest.raises(ValidationError):
        EventsSettings.model_validate({"enabled": given})


def test_shares_of_replicas_need_a_store_to_be_told_through() -> None:
    shards = EventsSettings(shard_across_proxies=True)
    check_shards(shards, shared=True)
    check_shards(EventsSettings(), shared=False)
    with pytest.raises(PydanticCustomError, match=r"needs store\.url"):
        check_shards(shards, shared=False)
