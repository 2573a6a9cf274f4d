"""Work in the background that goes on as long as the process: probing, listening, asking.

A task that dies of what nobody foresaw does so unseen, since somebody holds it and nobody awaits
it. So all of that work runs through here: what ends it is said, counted, and it begins again.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any

log = logging.getLogger("kvproxy")

# How long after a failure work begins again: the longer the sooner one follows the other.
_AGAIN_S, _AGAIN_MAX_S = 1.0, 60.0

# How often each kind of work failed in this process.
failures: Counter[str] = Counter()


Work = Callable[[], Coroutine[Any, Any, None]]


def keep(what: str, work: Work, about: str = "") -> asyncio.Task[None]:
    """Does `work` until it returns or the task is cancelled. `what` is a label, one of few; `about`
    whom or what it is, for the log."""
    # A counter that begins at 1 has never grown.
    failures[what] += 0
    return asyncio.get_running_loop().create_task(_keep(what, work, about))


async def _keep(what: str, work: Work, about: str) -> None:
    loop, this, wait_s = asyncio.get_running_loop(), asyncio.current_task(), _AGAIN_S
    assert this is not None
    while True:
        began = loop.time()
        try:
            await work()
            return
        except (Exception, asyncio.CancelledError):
            # Work may also be cancelled from within, by what it waits for; and when it is told to
            # end, it may end by an error.
            if this.cancelling():
                raise
            failures[what] += 1
            if loop.time() - began > _AGAIN_MAX_S:
                wait_s = _AGAIN_S
            whose = f"{what} ({about})" if about else what
            log.exception("%s failed, and begins again in %.0f s", whose, wait_s)
        await asyncio.sleep(wait_s)
        wait_s = min(2 * wait_s, _AGAIN_MAX_S)
