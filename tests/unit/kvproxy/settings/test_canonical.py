import pytest
from pydantic import ValidationError

from kvproxy.settings.canonical import CanonicalSettings


@pytest.mark.parametrize("key", ["freeze", "drop"])
def test_patterns(key: str) -> None:
    made = CanonicalSettings.model_validate({key: [r"Today is \S+"]})
    assert getattr(made, key) == (r"Today is \S+",)


@pytest.mark.parametrize("pattern", ["(", "", "[a", "x" * 2000])
def test_what_is_no_pattern(pattern: str) -> None:
    with pytest.raises(ValidationError):
        CanonicalSettings.model_validate({"freeze": [pattern]})


def test_nothing_but_order_and_the_billing_line_is_touched_by_default() -> None:
    made = CanonicalSettings()
    assert (made.enabled, made.dry_run, made.order) == (True, False, "first_seen")
    assert (made.billing_line, made.freeze, made.drop) == (True, (), ())
