"""Which replicas there are, changed while requests run: by operators, a reload, or discovery.

Every change is one step for the router, so a request sees the replica or does not. Who has a
request on a replica keeps it to the end: draining and removing wait for that.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from math import inf
from typing import Any

from kvproxy.adapters.gate import Gate
from kvproxy.adapters.http1.upstream import Http1Upstream
from kvproxy.adapters.replica_probe import ReplicaProbe
from kvproxy.build import ReplicaMaker
from kvproxy.core.admission import Admission
from kvproxy.core.errors import ProxyError
from kvproxy.core.life_cycle import Evidence, Health
from kvproxy.core.pins import Pinned
from kvproxy.core.replica import Replica
from kvproxy.core.router import Router
from kvproxy.settings.model import Settings
from kvproxy.settings.replica import ReplicaSettings
from kvproxy.sources import Sources

log = logging.getLogger("kvproxy.replicas")

# Who named a replica: a reload of the settings changes only those that settings named.
FROM_SETTINGS = "settings"
FROM_ADMIN = "admin"

# How often a replica that leaves is looked at.
_LOOK_S = 0.05
# What a replica is, so that a change of it makes another one; a weight may change in place.
_EVENTS = ("events_endpoint", "events_replay_endpoint", "events_topic", "events_ranks")
_IDENTITY = ("url", "hbm_tokens", *_EVENTS)


@dataclass(frozen=True, slots=True)
class Followers:
    """All who keep something for each replica."""

    router: Router
    admission: Admission
    gate: Gate
    probe: ReplicaProbe
    upstream: Http1Upstream
    sources: Sources


class ReplicaTable:
    """add, drain, undrain, remove and pin take effect before they return; they raise ProxyError
    not_found or conflict. `api_keys` is what everybody who asks replicas reads, by replica id."""

    def __init__(
        self,
        settings: Settings,
        followers: Followers,
        maker: ReplicaMaker,
        api_keys: dict[str, str],
        clock: Callable[[], float],
    ) -> None:
        self._to = followers
        self._maker = maker
        self._api_keys = api_keys
        self._default_key = settings.upstream.api_key
        self._clock = clock
        self._settings = {replica.id: replica for replica in settings.replicas}
        # Who wants each: one that settings name may be found by a source, too.
        self._origins = {name: {FROM_SETTINGS} for name in self._settings}
        self._leaving: dict[str, asyncio.Task[None]] = {}
        self._forgetting: set[asyncio.Task[None]] = set()

    def add(self, wanted: ReplicaSettings, origin: str = FROM_ADMIN) -> Replica:
        """The same one again changes nothing but takes back a drain or removal."""
        known = self._settings.get(wanted.id)
        if known is None:
            self.check(wanted, origin="")
            return self._join(wanted, origin)
        replica = self.get(wanted.id)
        if any(getattr(known, name) != getattr(wanted, name) for name in _IDENTITY):
            raise ProxyError(
                "conflict",
                f"Replica {wanted.id} is there already, as {known.url}: remove it first.",
            )
        self._stay(wanted.id)
        self._origins[wanted.id].add(origin)
        self._update(replica, wanted)
        self._see(replica, Evidence.UNDRAIN)
        return replica

    def drain(self, replica_id: str) -> Replica:
        """No new work; what it has it finishes."""
        replica = self.get(replica_id)
        self._see(replica, Evidence.DRAIN)
        return replica

    def undrain(self, replica_id: str) -> Replica:
        """Used again once a probe is answered, which is sent at once."""
        replica = self.get(replica_id)
        self._stay(replica_id)
        self._see(replica, Evidence.UNDRAIN)
        return replica

    def remove(self, replica_id: str, grace_s: float = inf) -> Replica:
        """Drained now and gone after its last request; what is left after `grace_s` is cut."""
        replica = self.drain(replica_id)
        self._stay(replica_id)
        leaving = self._leave(replica, grace_s)
        self._leaving[replica_id] = asyncio.get_running_loop().create_task(leaving)
        return replica

    def pin(self, replica_id: str, what: Pinned) -> None:
        """Its turns go there as long as that replica can be used."""
        self.get(replica_id)
        self._to.router.pins.pin(what, replica_id)

    def unpin(self, what: Pinned) -> None:
        if not self._to.router.pins.unpin(what):
            raise ProxyError("not_found", "This conversation is not pinned.")

    def get(self, replica_id: str) -> Replica:
        """Raises ProxyError not_found."""
        for replica in self._to.router.replicas:
            if replica.id == replica_id:
                return replica
        known = ", ".join(replica.id for replica in self._to.router.replicas)
        raise ProxyError("not_found", f"No replica has the id `{replica_id}`; known: {known}.")

    def settle(
        self, wanted: Iterable[ReplicaSettings], default_key: Any, origin: str = FROM_SETTINGS
    ) -> list[str]:
        """Makes the replicas of `origin` those that are wanted; returns what was done, in words.

        One that is another now under its old name takes over at once: requests on the old one end
        there. One that others want as well stays, and is what settings say if they name it.
        Raises ProxyError conflict before anything was done.
        """
        names = {replica.id: replica for replica in wanted}
        for replica in names.values():
            self.check(replica, origin)
        self._default_key = default_key
        done = []
        for known, by in list(self._origins.items()):
            if origin not in by or known in names:
                continue
            if len(by) > 1:
                by.remove(origin)
            elif known not in self._leaving:
                self.remove(known)
                done.append(f"replica {known} leaves")
        done += [self._want(name, replica, origin) for name, replica in names.items()]
        return [what for what in done if what]

    def _want(self, name: str, wanted: ReplicaSettings, origin: str) -> str:
        """It is there afterwards; what was done for that, if anything was."""
        was, by = self._settings.get(name), self._origins.get(name, set[str]())
        if was is None:
            self._join(wanted, origin)
            return f"replica {name} joins"
        if name in self._leaving:
            # Those who wanted it do no more.
            by.clear()
        elif FROM_SETTINGS in by and origin != FROM_SETTINGS:
            by.add(origin)
            return ""
        by.discard(FROM_ADMIN)
        by.add(origin)
        if any(getattr(was, field) != getattr(wanted, field) for field in _IDENTITY):
            self._stay(name)
            pins = self._to.router.pins
            pinned = pins.of(name)
            self._drop(self.get(name))
            self._join(wanted, origin)
            self._origins[name] = by
            for what in pinned:
                pins.pin(what, name)
            return f"replica {name} is {wanted.url} now"
        stays = name in self._leaving
        if stays:
            self.undrain(name)
        self._update(self.get(name), wanted)
        if stays:
            return f"replica {name} stays"
        return f"replica {name} changes" if was != wanted else ""

    def check(self, wanted: ReplicaSettings, origin: str) -> None:
        """Raises ProxyError conflict for what settle() cannot take from `origin`: its address is
        that of one that others want."""
        if wanted.id in self._settings:
            return
        for replica in self._to.router.replicas:
            if replica.url == wanted.url and self._origins[replica.id] != {origin}:
                taken = f"{wanted.url} is replica {replica.id} already."
                raise ProxyError("conflict", taken)

    def listing(self) -> list[dict[str, object]]:
        """For operators: what is known of each, without secrets."""
        now = self._clock()
        return [
            {
                "id": replica.id,
                "url": replica.url,
                "health": replica.health,
                "since_s": round(now - replica.life.since, 3),
                "trouble": self._to.probe.trouble.get(replica.id, ""),
                "leaving": replica.id in self._leaving,
                "origin": ", ".join(sorted(self._origins.get(replica.id, ()))),
                "weight": replica.weight,
                "models": replica.models,
                "in_flight": replica.load.in_flight,
                "sessions": self._to.router.affinity.sessions(replica.id),
                "pinned": len(self._to.router.pins.of(replica.id)),
                "hbm_tokens": replica.hbm_tokens,
                "held_tokens": replica.hbm.size,
            }
            for replica in self._to.router.replicas
        ]

    async def close(self) -> None:
        tasks = [*self._leaving.values(), *self._forgetting]
        for task in self._leaving.values():
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # How a replica comes and goes.

    def _join(self, wanted: ReplicaSettings, origin: str) -> Replica:
        to, replica = self._to, self._maker.make(wanted)
        replica.life.since = replica.emptied_at = self._clock()
        self._origins[wanted.id] = {origin}
        self._update(replica, wanted)
        to.router.add(replica)
        to.probe.add(replica, fixed_hbm=wanted.hbm_tokens is not None)
        to.sources.add(replica, wanted)
        log.info("replica %s joins: %s", replica.id, replica.url)
        return replica

    async def _leave(self, replica: Replica, grace_s: float) -> None:
        loop = asyncio.get_running_loop()
        until = loop.time() + grace_s
        # The core, whose count this is, knows no events.
        while replica.load.in_flight and loop.time() < until:  # noqa: ASYNC110
            await asyncio.sleep(_LOOK_S)
        del self._leaving[replica.id]
        if replica.load.in_flight:
            self._to.upstream.cut(replica)
        self._drop(replica)

    def _drop(self, replica: Replica) -> None:
        to = self._to
        self._origins.pop(replica.id)
        self._settings.pop(replica.id)
        self._api_keys.pop(replica.id, None)
        replica.see(Evidence.REMOVE, self._clock())
        to.router.remove(replica)
        to.admission.forget(replica)
        to.probe.forget(replica)
        to.upstream.forget(replica)
        forgetting = asyncio.get_running_loop().create_task(to.sources.remove(replica))
        self._forgetting.add(forgetting)
        forgetting.add_done_callback(self._forgetting.discard)
        to.gate.changed()
        log.info("replica %s is gone", replica.id)

    def _stay(self, replica_id: str) -> None:
        leaving = self._leaving.pop(replica_id, None)
        if leaving is not None:
            leaving.cancel()

    def _update(self, replica: Replica, wanted: ReplicaSettings) -> None:
        self._settings[replica.id] = wanted
        self._maker.adjust(replica, wanted)
        secret = wanted.api_key or self._default_key
        if secret is None:
            self._api_keys.pop(replica.id, None)
        else:
            self._api_keys[replica.id] = secret.get_secret_value()

    def _see(self, replica: Replica, evidence: Evidence) -> None:
        was = replica.health
        if replica.see(evidence, self._clock()):
            log.info("replica %s is %s (was %s)", replica.id, replica.health, was)
            if replica.health is Health.STARTING:
                self._to.probe.ask_soon(replica)
            self._to.gate.changed()
