"""The waiting side of admission: a future a ticket, resolved when its turn has come."""

import asyncio
from collections.abc import Callable

from kvproxy.core.admission import Admission
from kvproxy.core.errors import ProxyError
from kvproxy.core.line import Ticket
from kvproxy.core.replica import Replica
from kvproxy.core.router import Placement, Router

# Queues drain by the clock too, not only by events: how often to look while somebody waits.
_TICK_S = 0.05


class Gate:
    """admit() is the only await between a request's decision and its reservation."""

    def __init__(self, router: Router, admission: Admission, clock: Callable[[], float]) -> None:
        self._router = router
        self._admission = admission
        self._clock = clock
        self._futures: dict[int, asyncio.Future[Placement]] = {}
        self._timer: asyncio.TimerHandle | None = None

    async def admit(self, ticket: Ticket) -> Placement:
        """Returns when the ticket was placed; a cancelled one leaves nothing behind."""
        placement = self._admission.pass_by(ticket, self._clock())
        if placement is not None:
            return placement
        self._admission.enter(ticket, self._clock())
        future: asyncio.Future[Placement] = asyncio.get_running_loop().create_future()
        self._futures[id(ticket)] = future
        self.changed(ticket.replica)
        if future.done():
            return future.result()
        try:
            return await future
        except asyncio.CancelledError:
            if self._futures.pop(id(ticket), None) is not None:
                self._admission.leave(ticket)
            elif not future.cancelled() and future.exception() is None:
                # Placed and cancelled in one turn of the loop: nobody else would settle it.
                self._router.abort(future.result(), self._clock())
            raise
        finally:
            # An outcome that is raised refers to this call, and must not be referred to by it.
            del future

    def changed(self, replica: Replica | None = None) -> None:
        """Load, health or the queue changed: place whoever may go now. `replica`: where only that
        one's load and queue did."""
        if not self._admission.length:
            return
        for ticket, outcome in self._admission.poll(self._clock(), replica):
            future = self._futures.pop(id(ticket))
            if isinstance(outcome, ProxyError):
                if not future.cancelled():
                    future.set_exception(outcome)
            elif future.cancelled():
                self._router.abort(outcome, self._clock())
            else:
                future.set_result(outcome)
        if self._admission.length and self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_TICK_S, self._tick)

    def _tick(self) -> None:
        self._timer = None
        self.changed()
