import pytest
from pydantic import ValidationError

from kvproxy.core.allowance import AllowanceLimits
from kvproxy.settings.admission import AdmissionSettings


def test_defaults_are_those_of_the_core() -> None:
    """The simulator runs the core's: what it says holds for a proxy without settings."""
    found = AdmissionSettings()
    assert AllowanceLimits() == AllowanceLimits(
        found.large_prefill_share, found.large_prefill_burst_s, found.small_prefill_s
    )


@pytest.mark.parametrize(
    "tree",
    [{"backlog_s": 0}, {"large_prefill_share": 1.5}, {"queue_max": 0}, {"small_prefill_s": -1}],
)
def test_refused(tree: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        AdmissionSettings.model_validate(tree)
