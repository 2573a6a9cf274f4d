import pytest
from pydantic import ValidationError

from kvproxy.settings.access import AccessSettings

DIGEST = "0" * 64


def test_nobody_needs_a_key_by_default() -> None:
    assert AccessSettings().keys == ()


@pytest.mark.parametrize(
    ("key", "what"),
    [
        ({"name": "a b", "sha256": DIGEST}, "name"),
        ({"name": "a", "sha256": "kvp-plain-text"}, "sha256"),
        ({"name": "a", "sha256": DIGEST, "tenant": "x/y"}, "tenant"),
        ({"name": "a", "sha256": DIGEST, "requests_per_min": 0}, "requests_per_min"),
    ],
)
def test_what_no_key_can_be(key: dict[str, object], what: str) -> None:
    with pytest.raises(ValidationError, match=what):
        AccessSettings.model_validate({"keys": [key]})


@pytest.mark.parametrize("second", [("a", "1" * 64), ("b", DIGEST)])
def test_names_and_digests_differ(second: tuple[str, str]) -> None:
    keys = [{"name": name, "sha256": digest} for name, digest in (("a", DIGEST), second)]
    with pytest.raises(ValidationError, match="is also that of"):
        AccessSettings.model_validate({"keys": keys})
