"""KV that the replicas of one fleet compute for each other, held until loaded or expired."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from loadgen.emulator.replica import Replica, Work
from loadgen.emulator.requests import Sampling
from loadgen.emulator.settings import EmulatorSettings
from loadgen.emulator.transfer_legs import Leg, Place, leg_of

# How long a decode leg waits for the prefill leg that is sent beside it.
RENDEZVOUS_S = 60.0
_HASH_BYTES = 8


@dataclass(slots=True, eq=False)
class Granted:
    """`tokens` of a prompt, held by `let_go`'s owner until that is called."""

    chain: bytes
    tokens: int
    let_go: Callable[[], None]
    timer: asyncio.TimerHandle | None = None


@dataclass(slots=True)
class Ledger:
    """What was computed for others, by transfer, and `peers` whose caches can be read: tokens of
    a chain that each holds, by address. `loaded` and `expired` count transfers."""

    granted: dict[str, Granted] = field(default_factory=dict)
    peers: dict[str, Callable[[bytes], int]] = field(default_factory=dict)
    loaded: int = 0
    expired: int = 0
    _waiters: dict[str, asyncio.Future[None]] = field(default_factory=dict)

    def grant(self, name: str, granted: Granted, lease_s: float) -> None:
        self.granted[name] = granted
        granted.timer = asyncio.get_running_loop().call_later(lease_s, self._expire, name)
        waiter = self._waiters.pop(name, None)
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    async def wait(self, name: str) -> Granted | None:
        """What a leg that is sent beside this one computes; None if it does not come."""
        if name not in self.granted:
            waiter = self._waiters.setdefault(name, asyncio.get_running_loop().create_future())
            try:
                await asyncio.wait_for(asyncio.shield(waiter), RENDEZVOUS_S)
            except TimeoutError:
                self._waiters.pop(name, None)
        return self.granted.get(name)

    def take(self, name: str) -> None:
        """It was loaded: whoever computed it may forget it."""
        granted = self.granted.pop(name, None)
        if granted is not None:
            self.loaded += 1
            self._end(granted)

    def close(self) -> None:
        for granted in self.granted.values():
            if granted.timer is not None:
                granted.timer.cancel()
        self.granted.clear()

    def _expire(self, name: str) -> None:
        granted = self.granted.pop(name, None)
        if granted is not None:
            self.expired += 1
            self._end(granted)

    def _end(self, granted: Granted) -> None:
        if granted.timer is not None:
            granted.timer.cancel()
        granted.let_go()


class Transfers:
    """One replica's part in them."""

    def __init__(
        self,
        settings: EmulatorSettings,
        replica: Replica,
        ledger: Ledger,
        here: Callable[[], Place],
    ) -> None:
        self._settings = settings
        self._replica = replica
        self._ledger = ledger
        self.here = here

    @classmethod
    def alone(cls, settings: EmulatorSettings, replica: Replica) -> "Transfers":
        return cls(settings, replica, Ledger(), lambda: Place("", 0, ""))

    def leg_of(self, fields: Mapping[str, Any], request_id: str, sampling: Sampling) -> Leg | None:
        """None for a request that is whole. Raises ApiError."""
        return leg_of(self._settings.kv_connector, fields, request_id, sampling, self.here())

    async def prepare(self, leg: Leg | None, work: Work) -> Work:
        """What the engine is given: a leg that loads waits here for the one that computes."""
        if leg is None:
            return self._pushed(work) if self._settings.kv_connector == "lmcache" else work
        if leg.computes:
            return replace(work, keeps=True)
        if leg.pulls:
            held = self._ledger.peers.get(leg.name)
            return replace(work, remote_tokens=held(work.chain) if held is not None else 0)
        granted = await self._ledger.wait(leg.name)
        if granted is None:
            return work
        if self._blocks(work.prompt_tokens) > self._blocks(granted.tokens):
            # vLLM's NIXL worker asserts that it is not asked for more than was computed.
            self._replica.crash()
        return replace(work, remote_tokens=granted.tokens)

    def loaded(self, leg: Leg | None, work: Work) -> None:
        """The first token is there, so the KV is too."""
        if leg is not None and not leg.computes:
            self._ledger.take(leg.name)
        elif leg is None and work.remote_tokens:
            self._ledger.take(self._name_of(work) or "")

    def computed(self, leg: Leg | None, work: Work, request_id: str) -> None:
        """The prompt's KV is there for another replica, until that has it or the lease ends."""
        if leg is None or not leg.computes:
            return
        granted = Granted(work.chain, work.prompt_tokens, lambda: self._replica.let_go(request_id))
        lease_s = self._settings.kv_lease_s / self._settings.time_scale
        self._ledger.grant(leg.name, granted, lease_s)

    def _blocks(self, tokens: int) -> int:
        return -(-tokens // self._settings.block_size)

    def _pushed(self, work: Work) -> Work:
        """LMCache pushes into the receiver's memory, where an ordinary lookup finds it."""
        name = self._name_of(work)
        if name is None:
            return work
        return replace(work, remote_tokens=self._ledger.granted[name].tokens)

    def _name_of(self, work: Work) -> str | None:
        size = work.prompt_tokens // self._settings.block_size * _HASH_BYTES
        for name, granted in self._ledger.granted.items():
            if granted.chain[:size] == work.chain[:size]:
                return name
        return None
