"""What a proxy remembers, by part, and the setting that bounds each."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from kvproxy.app import App
from kvproxy.core.turn import TurnReader
from tests.soak.census import live_bytes
from tests.support.deep_size import deep_size


class Part(NamedTuple):
    """`count` of its entries; `state` is what holds them."""

    bound: str
    count: Callable[[], int]
    state: object


def parts_of(app: App) -> dict[str, Part]:
    """What several hold is counted with the first. Every name is the code's own: where one was
    changed this fails."""
    router, reader = app.router, app.proxy.reader
    assert isinstance(reader, TurnReader)
    graph, ruler, points = app.local.diagnosis._threads, router.ruler, reader._points
    trees = [replica.hbm for replica in router.replicas]
    heads = app.server.heads
    return {
        "resume points": Part("identify.max_sessions", points.__len__, points),
        "session graph": Part("explain.sessions_max_bytes", graph.__len__, graph),
        "affinity": Part("identify.max_sessions", router.affinity.__len__, router.affinity),
        "working set": Part(
            "identify.max_sessions",
            router.working_set._uses.__len__,
            [router.working_set._uses, *(band.uses for band in router.working_set._bands)],
        ),
        "token counts": Part(
            "index.anchors_max",
            ruler._anchors.__len__,
            [ruler._anchors, ruler._marks, ruler._hits, ruler._measured],
        ),
        "explanations": Part(
            "explain.requests_max_bytes", app.explanations.__len__, app.explanations
        ),
        "models of caches (blocks)": Part(
            "index.hbm_tokens_default", lambda: sum(tree.blocks for tree in trees), trees
        ),
        "heads of bodies": Part(
            "blocks.heads_max_bytes", reader._heads._parts.__len__, reader._heads
        ),
        "heads of requests": Part("512 of them", heads.__len__, heads),
    }


def sizes(app: App) -> dict[str, int]:
    seen: set[int] = set()
    return {name: deep_size(part.state, seen) for name, part in parts_of(app).items()}


def counts(app: App) -> dict[str, int]:
    return {name: part.count() for name, part in parts_of(app).items()}


def resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def in_use_bytes() -> int:
    return live_bytes()
