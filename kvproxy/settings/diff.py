"""What differs between two sets of settings, and which of it a running server can take over."""

from collections.abc import Iterator
from typing import NamedTuple

from pydantic import BaseModel

from kvproxy.settings.model import Settings
from kvproxy.settings.tree import Path, dotted

# Taken over while the server runs; everything else needs a restart.
LIVE: frozenset[Path] = frozenset(
    {
        ("replicas",),
        ("models",),
        ("access", "keys"),
        ("access", "metrics_open"),
        ("access", "engine_commands"),
        ("upstream", "api_key"),
        ("upstream", "drop_headers"),
        ("upstream", "allow_headers"),
        ("server", "drop_headers"),
        ("log", "level"),
        ("log", "access"),
        *(
            ("admission", name)
            for name in (
                "backlog_s",
                "ageing_s",
                "wait_max_s",
                "ttft_slo_s",
                "large_prefill_share",
                "large_prefill_burst_s",
                "small_prefill_s",
                "queue_max",
            )
        ),
    }
)


class Diff(NamedTuple):
    """Dotted keys that changed: those to take over, and those that need a restart."""

    live: tuple[str, ...]
    restart: tuple[str, ...]


def diff(old: Settings, new: Settings) -> Diff:
    changed = list(_changed(old, new, ()))
    live = tuple(dotted(path) for path in changed if path in LIVE)
    return Diff(live, tuple(dotted(path) for path in changed if path not in LIVE))


def taken_over(old: Settings, new: Settings) -> Settings:
    """`old` with what can be taken over of `new`."""
    groups: dict[str, object] = {}
    for path in LIVE:
        if len(path) == 1:
            groups[str(path[0])] = getattr(new, str(path[0]))
    for section in {str(path[0]) for path in LIVE if len(path) > 1}:
        names = [str(path[1]) for path in LIVE if path[0] == section]
        values = {name: getattr(getattr(new, section), name) for name in names}
        groups[section] = getattr(old, section).model_copy(update=values)
    return old.model_copy(update=groups)


def _changed(old: BaseModel, new: BaseModel, at: Path) -> Iterator[Path]:
    for name in type(old).model_fields:
        before, after = getattr(old, name), getattr(new, name)
        if isinstance(before, BaseModel) and isinstance(after, BaseModel):
            yield from _changed(before, after, (*at, name))
        elif before != after:
            yield (*at, name)
