"""What a person at a terminal is told after a start: where clients connect, and where to look once
a first request was answered. Supervisors and files hear nothing of it.
"""

import asyncio
import logging
import sys
from collections.abc import Callable
from typing import Protocol

from kvproxy.settings.model import Settings

log = logging.getLogger("kvproxy")

_LOOK_S = 0.5
_NAMED = 3
_under_way = set[asyncio.Task[None]]()


class Listening(Protocol):
    @property
    def url(self) -> str | None: ...


def first_steps(
    settings: Settings, url: str, operators: Listening | None, answered: Callable[[], int]
) -> asyncio.Task[None]:
    """Ends by itself after the first answer, or with the loop. `url` is where clients connect,
    `operators` where operators do if that is elsewhere. `answered` counts requests that went well;
    it is looked at now and then, so that no request pays for being the first."""
    seen = sys.stderr.isatty() and settings.log.format != "json"
    own = operators.url if operators is not None else None
    then = where_to_look(settings, own or url)
    telling = _tell(url, then, answered) if seen else asyncio.sleep(0)
    task = asyncio.get_running_loop().create_task(telling)
    _under_way.add(task)
    task.add_done_callback(_under_way.discard)
    return task


async def _tell(url: str, then: str, answered: Callable[[], int]) -> None:
    log.info("clients: base URL %s/v1 (OpenAI) or %s (Anthropic)", url, url)
    while not answered():  # noqa: ASYNC110
        await asyncio.sleep(_LOOK_S)
    log.info("%s", then)


def where_to_look(settings: Settings, operators: str) -> str:
    key = " --api-key-env NAME" if settings.access.keys else ""
    named = [f"--replica {replica.url}" for replica in settings.replicas]
    # A long list is better said by the file that it is in.
    replicas = " ".join(named) if 0 < len(named) <= _NAMED else "--config FILE"
    return (
        "the first request is answered. See more "
        f"at {operators}/admin/ or by `kvproxy top --url {operators}{key}`; "
        f"metrics: {operators}/metrics; "
        f"what keeps replicas from their caches: `kvproxy doctor --probe {replicas}`"
    )
