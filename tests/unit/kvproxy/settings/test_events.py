import pytest
from pydantic import ValidationError

from kvproxy.settings.events import EventsSettings


@pytest.mark.parametrize(("given", "read"), [(True, "on"), (False, "off"), ("auto", "auto")])
def test_yaml_reads_a_bare_on_as_true(given: object, read: str) -> None:
    assert EventsSettings.model_validate({"enabled": given}).enabled == read


@pytest.mark.parametrize("given", ["sometimes", 1, None])
def test_other_words_are_refused(given: object) -> None:
    with pytest.raises(ValidationError):
        EventsSettings.model_validate({"enabled": given})
