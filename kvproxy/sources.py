"""Who tells what replicas hold, beside what was sent to them: their KV events, LMCache's servers.

Started and stopped as one.
"""

import ssl
from array import array
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from kvproxy.adapters.engine_fields import EngineFields
from kvproxy.adapters.kv_discovery import KvDiscovery
from kvproxy.adapters.kv_event_feed import FeedLimits, KvEventFeed
from kvproxy.adapters.lmcache import LmcacheDirectory, LmcacheLimits
from kvproxy.adapters.prompt_watch import Prompt, PromptWatch, Request, Tokenised
from kvproxy.adapters.template_watch import TemplateWatch
from kvproxy.adapters.tokenise import Tokenise
from kvproxy.core.kv_sources import KvSource, of_ranks
from kvproxy.core.pieces import whole
from kvproxy.core.replica import Replica
from kvproxy.core.router import Placing, Router
from kvproxy.core.token_ids import FIELD, PATHS, can_ask
from kvproxy.core.tokenise import salt_of
from kvproxy.core.types import Chain
from kvproxy.core.unprinted import Unprinted
from kvproxy.ops.source_counters import Counted
from kvproxy.proxy import Record
from kvproxy.settings.model import Settings
from kvproxy.settings.replica import ReplicaSettings

if TYPE_CHECKING:
    from kvproxy.adapters.local_tokens.local import LocalTokens

_FEED = {
    "batches": "Batches of KV events applied",
    "blocks": "Blocks that KV events were about",
    "gaps": "Times that batches were missed and asked for again",
    "resyncs": "Times that everything was forgotten because batches were lost for good",
    "restarts": "Times that an engine was seen to have restarted",
    "cut": "Replays that broke off and were asked to go on",
    "refused": "Messages and events that could not be read",
}

# What the engine loaded under the name that it serves.
ModelPath = Callable[[Replica, str], str]


# What an engine answers to a field that it does not want.
_REFUSED = (400, 422)


class SourceSetupError(Exception):
    """A source that settings ask for cannot be had; the message says what to do."""


class Sources:
    """`lmcache` is None when no server is given."""

    def __init__(
        self,
        settings: Settings,
        router: Router,
        api_keys: Mapping[str, str],
        model_path: ModelPath,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._model_path = model_path
        self._holdings = router.holdings
        self._events = settings.events.enabled != "off"
        self.feed, self.discovery = _events(settings, router, api_keys, tls)
        self.lmcache = _lmcache(settings)
        self._tokenise = Tokenise(settings.lmcache.timeout_s, api_keys, tls)
        self.local = _local(settings)
        self.fields = _fields(settings, router, api_keys, tls)
        self.unprinted = Unprinted(asking=settings.tokens.ask_templates)
        self._templates = TemplateWatch(
            router.replicas,
            self.unprinted,
            self._tokenise.tokens,
            interval_s=settings.probe.interval_s,
        )
        self._hosts = {replica.id: _host(replica) for replica in router.replicas}
        self.prompts = _prompts(
            settings, router, self.lmcache, self._tokenise, self._hosts, local=self.local
        )

    @property
    def announced(self) -> tuple[KvEventFeed, KvDiscovery]:
        """Who listens to replicas, and who finds out where."""
        return self.feed, self.discovery

    async def start(self) -> None:
        """Returns when everybody was asked once."""
        if self._events:
            await self.discovery.start()
        if self.lmcache is not None:
            await self.lmcache.start()
        await self._tokenise.start()
        if self.fields is not None:
            await self.fields.start()
        self.prompts.start()
        await self._templates.start()

    async def close(self) -> None:
        await self.prompts.close()
        await self._templates.close()
        await self._tokenise.close()
        if self.local is not None:
            self.local.close()
        if self.fields is not None:
            await self.fields.close()
        if self.lmcache is not None:
            await self.lmcache.close()
        await self.discovery.close()
        await self.feed.close()

    def add(self, replica: Replica, settings: ReplicaSettings) -> None:
        """One more replica from now on."""
        self._hosts[replica.id] = _host(replica)
        if self._events:
            self.discovery.add(replica, _fixed(settings))

    def remove(self, replica: Replica) -> Coroutine[Any, Any, None]:
        """See KvDiscovery.remove."""
        self._hosts.pop(replica.id, None)
        self.prompts.forget(replica)
        if self.fields is not None:
            self.fields.forget(replica)
        return self.discovery.remove(replica)

    def ask_ids(self, record: Record) -> bool:
        """Whether the engine shall tell the token ids of a prompt with its answer: where nobody
        else does, and where an earlier turn should have been announced and was not."""
        turn, placement, fields = record.turn, record.placement, self.fields
        if fields is None or turn is None or placement is None or not len(turn.chain.hashes):
            return False
        replica, path = placement.replica, record.exchange.path
        if not fields.knows(replica, path) or not can_ask(path, turn.members):
            return False
        missed = turn.resumed_at > 0 and self._holdings.misses_anchor(replica, turn.chain)
        return missed or self.prompts.wants(replica)

    def answered(self, record: Record) -> None:
        """A prompt is known by its token ids alone to some: they are asked for now."""
        turn, placement, usage = record.turn, record.placement, record.usage
        ids = record.token_ids
        if ids is not None and ids.names_field and record.status in _REFUSED and placement:
            assert self.fields is not None
            self.fields.refused(placement.replica)
        if turn is None or placement is None or usage is None or not len(turn.chain.hashes):
            return
        told = None if ids is None else ids.prompt
        if told is not None or self.prompts.wants(placement.replica):
            request = Request(record.exchange.path, whole(record.body), turn.model)
            self.told(placement.placing, salt_of(turn), usage.prompt_tokens, request, told)

    def told(
        self,
        placing: Placing,
        salt: str,
        tokens: int,
        request: Request,
        ids: "array[int] | None" = None,
    ) -> None:
        """A prompt of so many tokens, as it was forwarded; `ids` where the engine said them."""
        replica, chain = placing.replica, placing.chain
        if len(chain):
            model = self._model_path(replica, request.model)
            self.prompts.answered(Prompt(replica, model, salt, chain, tokens, request, ids))

    def counted(self) -> Iterator[Counted]:
        """For metrics."""
        for name, text in _FEED.items():
            by_replica: Counter[str] = Counter()
            for source, counts in self.feed.counts.items():
                by_replica[source.replica] += getattr(counts, name)
            for replica, count in by_replica.items():
                yield Counted(f"kvproxy_events_{name}", text, {"replica": replica}, count)
        watch, text = self.prompts.counts, "Prompts whose token ids were wanted, by what came of it"
        outcomes = {
            "told": watch.told,
            "local": watch.local,
            "asked": watch.asked,
            "dropped": watch.dropped,
            "unlike": watch.unlike,
        }
        for outcome, count in outcomes.items():
            yield Counted("kvproxy_tokenised_prompts", text, {"outcome": outcome}, count)
        if self.lmcache is None:
            return
        asked, text = self.lmcache.counts, "Questions to LMCache"
        for outcome, count in {"answered": asked.answered, "failed": asked.failed}.items():
            yield Counted("kvproxy_lmcache_questions", text, {"outcome": outcome}, count)
        heard, text = float(self.lmcache.heard), "1 if LMCache answered of late"
        yield Counted("kvproxy_lmcache_heard", text, {}, heard, gauge=True)


def _events(
    settings: Settings,
    router: Router,
    api_keys: Mapping[str, str],
    tls: ssl.SSLContext | None,
) -> tuple[KvEventFeed, KvDiscovery]:
    events = settings.events
    feed = KvEventFeed(router.holdings, FeedLimits(events.idle_s, events.replay_timeout_s))
    fixed = {r.id: sources for r in settings.replicas if (sources := _fixed(r))}
    discovery = KvDiscovery(
        router.replicas,
        feed.follow,
        feed.forget,
        fixed=fixed,
        interval_s=events.discover_s,
        timeout_s=settings.probe.timeout_s,
        expected=events.enabled == "on",
        api_keys=api_keys,
        tls=tls,
    )
    return feed, discovery


def _fixed(replica: ReplicaSettings) -> list[KvSource]:
    """What the settings say to listen to."""
    endpoint, replay = replica.events_endpoint, replica.events_replay_endpoint
    if not endpoint:
        return []
    source = KvSource(replica.id, 0, endpoint, replay, replica.events_topic)
    return of_ranks(source, replica.events_ranks)


def _lmcache(settings: Settings) -> LmcacheDirectory | None:
    lmcache = settings.lmcache
    if not lmcache.coordinator_url and not lmcache.controller_url:
        return None
    limits = LmcacheLimits(
        lmcache.chunk_tokens,
        lmcache.dram_tokens,
        lmcache.world_size,
        lmcache.interval_s,
        lmcache.timeout_s,
        frozenset(server for server, _ in _pairs(settings)),
    )
    return LmcacheDirectory(lmcache.coordinator_url, lmcache.controller_url, limits)


def _local(settings: Settings) -> "LocalTokens | None":
    if not settings.tokens.tokenizers:
        return None
    try:
        # What it needs is not installed for those who do not use it.
        from kvproxy.adapters.local_tokens.local import LocalTokens  # noqa: PLC0415
    except ImportError as error:
        raise SourceSetupError(
            f"tokens.tokenizers needs `pip install kvproxy[tokenizer]`: {error}"
        ) from error
    split = [pair.partition("=") for pair in settings.tokens.tokenizers]
    local = LocalTokens(
        {model: folder for model, _, folder in split}, settings.tokens.tokenized_max_bytes
    )
    try:
        local.start()
    except ValueError as error:
        raise SourceSetupError(str(error)) from error
    return local


def _fields(
    settings: Settings,
    router: Router,
    api_keys: Mapping[str, str],
    tls: ssl.SSLContext | None,
) -> EngineFields | None:
    if not settings.tokens.return_token_ids:
        return None
    return EngineFields(
        router.replicas,
        FIELD,
        PATHS,
        interval_s=settings.probe.interval_s,
        timeout_s=settings.probe.timeout_s,
        api_keys=api_keys,
        tls=tls,
    )


def _prompts(
    settings: Settings,
    router: Router,
    directory: LmcacheDirectory | None,
    tokenise: Tokenise,
    hosts: Mapping[str, str],
    *,
    local: "LocalTokens | None",
) -> PromptWatch:
    return PromptWatch(
        router.holdings,
        directory,
        tokenise.tokens,
        hosts,
        named=_pairs(settings),
        interval_s=settings.lmcache.interval_s,
        tokenised=None if local is None else _tokenised(local),
    )


def _host(replica: Replica) -> str:
    return urlsplit(replica.url).hostname or ""


def _tokenised(local: "LocalTokens") -> Tokenised:
    async def tokens(request: Request, chain: Chain) -> "array[int] | None":
        return await local.tokens(request.model, request.path, request.body, chain)

    return tokens


def _pairs(settings: Settings) -> list[tuple[str, str]]:
    """Servers and the replicas that load from them."""
    split = [pair.partition("=") for pair in settings.lmcache.instances]
    return [(server, replica) for server, _, replica in split]
