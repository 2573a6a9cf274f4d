import pytest
from pydantic import ValidationError

from kvproxy.settings.store import StoreSettings


@pytest.mark.parametrize(
    "url", ["", "redis://h:6379", "rediss://h:6379/2", "unix:///run/valkey.sock"]
)
def test_urls_that_are_taken(url: str) -> None:
    assert StoreSettings(url=url).url == url


@pytest.mark.parametrize("url", ["h:6379", "http://h", "redis://user:secret@h:6379", "redis://"])
def test_urls_that_are_refused(url: str) -> None:
    with pytest.raises(ValidationError):
        StoreSettings(url=url)


def test_the_deadline_is_short_unless_asked() -> None:
    assert StoreSettings().deadline_s == 0.005
