"""Reference data that lies beside the repository, or does not: captured traffic and real traces."""

import os
from pathlib import Path

import pytest

_REPOSITORY = Path(__file__).resolve().parents[2]


def shared_dir() -> Path | None:
    """Folder named by KVPROXY_SHARED, else ../shared beside the repository; None when absent."""
    named = os.environ.get("KVPROXY_SHARED")
    folder = Path(named) if named else _REPOSITORY.parent / "shared"
    return folder if folder.is_dir() else None


def shared_path(*parts: str) -> Path:
    """A file or folder of the reference data. Skips the running test when it is absent."""
    folder = shared_dir()
    if folder is None:
        pytest.skip("no reference data: set KVPROXY_SHARED or put it into ../shared")
    path = folder.joinpath(*parts)
    if not path.exists():
        pytest.skip(f"the reference data has no {'/'.join(parts)}")
    return path
