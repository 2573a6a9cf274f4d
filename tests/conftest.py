"""What all tests share: a printed seed, so that any failure can be run again, and few fixtures."""

import os
import random
from collections.abc import Iterator

import pytest
from blockbuster import BlockBuster, blockbuster_ctx
from hypothesis import HealthCheck, settings

settings.register_profile("default", deadline=None, print_blob=True)
settings.register_profile(
    "thorough",
    deadline=None,
    print_blob=True,
    max_examples=2000,
    suppress_health_check=[HealthCheck.too_slow],
)
PROFILE = os.environ.get("HYPOTHESIS_PROFILE", "default")
settings.load_profile(PROFILE)


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    # Workers of pytest-xdist get the option from the main process, hence one seed for all.
    if config.getoption("hypothesis_seed") is None:
        config.option.hypothesis_seed = random.randrange(2**32)


def pytest_report_header(config: pytest.Config) -> str:
    seed = config.getoption("hypothesis_seed")
    return f"hypothesis profile {PROFILE}; again with --hypothesis-seed={seed}"


@pytest.fixture
def no_blocking_calls() -> Iterator[BlockBuster]:
    """Blocking calls inside the event loop raise."""
    with blockbuster_ctx() as buster:
        yield buster
