"""What only the collector could free of what a block left behind."""

import asyncio
import gc
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


@asynccontextmanager
async def garbage_of() -> AsyncIterator[Counter[str]]:
    """Filled, when the block is left, with the types of ours, and of the client library's, whose
    objects refer to each other and are referred to by nobody else."""
    found: Counter[str] = Counter()
    # What was there before is neither looked through nor found.
    gc.freeze()
    gc.disable()
    try:
        yield found
        # Connections end in later turns of the loop.
        for _ in range(5):
            await asyncio.sleep(0)
        gc.set_debug(gc.DEBUG_SAVEALL)
        gc.collect()
    finally:
        gc.set_debug(0)
        gc.unfreeze()
        gc.enable()
        types = [type(each) for each in gc.garbage]
        gc.garbage.clear()
    names = [f"{kind.__module__}.{kind.__qualname__}" for kind in types]
    found.update(name for name in names if name.startswith(("kvproxy.", "aiohttp.")))
