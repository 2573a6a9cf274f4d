"""Where the real engine lives: one folder outside the repository, used again by every run."""

import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Places:
    root: Path

    @property
    def venv(self) -> Path:
        return self.root / "venv"

    @property
    def python(self) -> Path:
        return self.venv / "bin" / "python"

    @property
    def lmcache(self) -> Path:
        """LMCache's own folder, put on PYTHONPATH, so that its wheels stay out of the venv."""
        return self.root / "lmcache"

    @property
    def nixl(self) -> Path:
        """NIXL's own folder: only replicas that hand KV to each other see it."""
        return self.root / "nixl"

    @property
    def model(self) -> Path:
        return self.root / "model"

    @property
    def downloads(self) -> Path:
        return self.root / "downloads"

    @property
    def logs(self) -> Path:
        return self.root / "logs"

    @property
    def stamp(self) -> Path:
        """Written last by the installer; holds what was installed."""
        return self.root / "installed"

    @property
    def lock(self) -> Path:
        return self.root / "lock"


def default_places() -> Places:
    """KVPROXY_REALSTACK_DIR, else ~/.cache/kvproxy-realstack."""
    named = os.environ.get("KVPROXY_REALSTACK_DIR")
    return Places(Path(named) if named else Path.home() / ".cache" / "kvproxy-realstack")
