"""One client of several proxies that serve the same replicas: every request goes to the next.

This is what a balancer without stickiness does to conversations. A proxy that cannot be reached, or
that breaks off before its answer begins, is passed over, as a client's own retry would.
"""

from collections.abc import Sequence

from loadgen.wire import Endpoint, Exchange, OnBody, Wire, WireError


class HoppingWire(Wire):
    def __init__(self, endpoints: Sequence[Endpoint]) -> None:
        super().__init__(endpoints[0])
        self._wires = [Wire(endpoint) for endpoint in endpoints]
        self._next = 0
        self.passed_over = 0

    async def exchange(
        self,
        method: str,
        path: str,
        headers: dict[str, str],
        body: bytes,
        on_body: OnBody,
        *,
        bytes_per_s: float | None = None,
    ) -> Exchange:
        """Raises WireError when none of them answers."""
        begun = False

        def begin(now: float, piece: bytes) -> None:
            nonlocal begun
            begun = True
            on_body(now, piece)

        wires, self._next = self._order(), self._next + 1
        while True:
            try:
                return await wires.pop(0).exchange(
                    method, path, headers, body, begin, bytes_per_s=bytes_per_s
                )
            except WireError:
                if begun or not wires:
                    raise
                self.passed_over += 1

    def close(self) -> None:
        for wire in self._wires:
            wire.close()

    def _order(self) -> list[Wire]:
        first = self._next % len(self._wires)
        return [*self._wires[first:], *self._wires[:first]]


def wire_to(url: str, also: Sequence[str]) -> Wire:
    endpoints = [Endpoint(each) for each in (url, *also)]
    return HoppingWire(endpoints) if also else Wire(endpoints[0])
