"""The part of a proxy that others of its fleet see: made from settings, shown in metrics."""

import importlib
import secrets
import socket
from collections.abc import Iterator
from typing import TYPE_CHECKING

from kvproxy.adapters.kv_discovery import KvDiscovery
from kvproxy.adapters.kv_event_feed import KvEventFeed
from kvproxy.core.affinity import SessionKey
from kvproxy.core.representatives import Representatives
from kvproxy.core.router import Router
from kvproxy.core.shared_words import session_key
from kvproxy.core.types import Identity
from kvproxy.ops.source_counters import Counted
from kvproxy.ops.tally import Spread
from kvproxy.settings.model import Settings

if TYPE_CHECKING:
    from kvproxy.adapters.store.event_shares import EventShares
    from kvproxy.adapters.store.shared_store import SharedStore

_SECONDS = (0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.02, 0.05, 0.1, 0.25)
_QUESTIONS = "Conversations that came, by what had to be asked about them"
_COMMITS = "Bindings sent to the store, by what it made of them"


class Sharing:
    """`store` is None for a proxy that is alone. `announced`: who listens to replicas, for itself
    or a share of them."""

    def __init__(
        self,
        settings: Settings,
        router: Router,
        representatives: Representatives,
        announced: tuple[KvEventFeed, KvDiscovery] | None = None,
    ) -> None:
        self.took = Spread(
            "kvproxy_store_seconds", "Time that first turns waited for the store", _SECONDS
        )
        self.store = _store(settings, router, representatives, self.took)
        self.shares: EventShares | None = None
        if self.store is not None:
            if announced is not None and settings.events.shard_across_proxies:
                self.shares = _shares(self.store, router, *announced)
            namespace = settings.store.namespace

            def key_of(identity: Identity) -> SessionKey:
                return session_key(identity, namespace)

            router.key_of = key_of

    async def start(self) -> None:
        if self.store is not None:
            await self.store.start()
        if self.shares is not None:
            self.shares.start()

    async def close(self) -> None:
        if self.shares is not None:
            await self.shares.close()
        if self.store is not None:
            await self.store.close()

    def counted(self) -> Iterator[Counted]:
        """For metrics."""
        store = self.store
        if store is None:
            return
        up = float(store.link.up)
        yield Counted("kvproxy_store_up", "1 if the store answers", {}, up, gauge=True)
        hears = float(store.hearing.hears)
        yield Counted("kvproxy_store_hears", "1 if peers are heard", {}, hears, gauge=True)
        peers = len(store.loads)
        yield Counted("kvproxy_store_peers", "Other proxies heard of late", {}, peers, gauge=True)
        for outcome in ("known", "new", "found", "late", "failed", "skipped"):
            count = store.questions[outcome]
            yield Counted("kvproxy_store_questions", _QUESTIONS, {"outcome": outcome}, count)
        counts, writer = store.writer.counts, store.writer
        outcomes = {"taken": counts.taken, "refused": counts.refused}
        for outcome, count in outcomes.items():
            yield Counted("kvproxy_store_commits", _COMMITS, {"outcome": outcome}, count)
        failed = "Round trips to the store that failed"
        yield Counted("kvproxy_store_failures", failed, {}, counts.failed)
        waiting = "Things that the store has still to be told"
        yield Counted("kvproxy_store_backlog", waiting, {}, writer.waiting, gauge=True)
        dropped = "Things that it will never be told: too many waited"
        yield Counted("kvproxy_store_dropped", dropped, {}, writer.dropped)
        heard = store.hearing
        yield Counted("kvproxy_store_messages", "Messages from peers", {}, heard.messages)
        refused = "Messages that no proxy of this version writes"
        yield Counted("kvproxy_store_refused_messages", refused, {}, heard.refused)
        yield from self._counted_shares()
        respelled = "Spellings given up for those that another proxy saw first"
        yield Counted("kvproxy_store_respelled", respelled, {}, store.respelled)

    def _counted_shares(self) -> Iterator[Counted]:
        shares = self.shares
        if shares is None:
            return
        name, text = "kvproxy_event_sources", "Sources of KV events, by who listens to them"
        for by, count in {"this": shares.own, "another": shares.others}.items():
            yield Counted(name, text, {"proxy": by}, count, gauge=True)
        name, text = "kvproxy_event_digests", "Digests of KV events, by what became of them"
        second = shares.second_hand
        outcomes = {"told": shares.told, "heard": second.digests, "refused": shares.refused}
        for outcome, count in outcomes.items():
            yield Counted(name, text, {"outcome": outcome}, count)
        text = "Bytes of digests told to other proxies"
        yield Counted("kvproxy_event_digest_bytes", text, {}, shares.told_bytes)
        text = "Times that a source was lost since digests of it were missed"
        yield Counted("kvproxy_event_digest_gaps", text, {}, second.gaps)


def _store(
    settings: Settings, router: Router, representatives: Representatives, took: Spread
) -> "SharedStore | None":
    asked = settings.store
    if not asked.url:
        return None
    try:
        # Only a proxy that is not alone needs the client of the store.
        link = importlib.import_module("kvproxy.adapters.store.link")
        shared = importlib.import_module("kvproxy.adapters.store.shared_store")
    except ModuleNotFoundError as error:
        raise SystemExit(
            f"store.url needs the package `{error.name}`: pip install 'kvproxy[store]'"
        ) from None
    password = asked.password.get_secret_value() if asked.password is not None else None
    limits = shared.StoreLimits(
        asked.namespace,
        asked.deadline_s,
        settings.identify.idle_s,
        settings.identify.max_sessions,
        asked.spellings_max,
        asked.prefixes_max,
    )
    store: SharedStore = shared.SharedStore(
        f"{socket.gethostname()[:64]}-{secrets.token_hex(6)}",
        link.Address(asked.url, asked.username or None, password),
        limits,
        router=router,
        representatives=representatives if asked.share_spellings else None,
        took=lambda seconds: took.add((), seconds),
    )
    return store


def _shares(
    store: "SharedStore", router: Router, feed: KvEventFeed, discovery: KvDiscovery
) -> "EventShares":
    shares = importlib.import_module("kvproxy.adapters.store.event_shares")
    made: EventShares = shares.EventShares(
        store.origin,
        store.link,
        store.names.events,
        feed=shares.Feed(feed.follow, feed.forget),
        holdings=router.holdings,
        peers=store.loads,
        hears=lambda: store.hearing.hears,
    )
    discovery.through(made.follow, made.forget)
    return made
