"""From settings to the core: what each part is made with."""

import math
import re
from urllib.parse import urlsplit

from kvproxy.core.access import Access, Key
from kvproxy.core.admission import Admission, AdmissionLimits
from kvproxy.core.affinity import Affinity
from kvproxy.core.allowance import AllowanceLimits
from kvproxy.core.canonical import Canonicaliser, Order
from kvproxy.core.disagg.choice import Mode, Terms
from kvproxy.core.disagg.connectors import Connector, Peer
from kvproxy.core.disagg.plan import Disagg
from kvproxy.core.disagg.transfer_rate import TransferRate
from kvproxy.core.dry_run import DryReader, Reader
from kvproxy.core.holdings import Holdings
from kvproxy.core.learn import PrefillRate
from kvproxy.core.life_cycle import LifeCycle, LifeLimits
from kvproxy.core.loadable import Loadable
from kvproxy.core.policies import PolicyName
from kvproxy.core.prefix_index import PrefixIndex
from kvproxy.core.prefix_tree import PrefixTree
from kvproxy.core.replica import Replica, Role
from kvproxy.core.representatives import Representatives
from kvproxy.core.router import Router
from kvproxy.core.ruler import Ruler
from kvproxy.core.score import Weights
from kvproxy.core.token_chain import TokenChains
from kvproxy.core.turn import TurnReader
from kvproxy.core.volatile import BILLING_LINE, Action, Rule, Volatile, Where
from kvproxy.settings.disagg import ALLOC_PORT_BEHIND, DEFAULT_KV_PORTS
from kvproxy.settings.model import Settings


def build_router(settings: Settings) -> Router:
    limits = LifeLimits(settings.probe.unhealthy_after, settings.probe.cool_max_s)
    drams = _dram_models(settings)
    replicas = [
        Replica(
            id=replica.id,
            url=replica.url,
            hbm_tokens=replica.hbm_tokens or settings.index.hbm_tokens_default,
            rate=PrefillRate(
                settings.score.prefill_tok_s,
                settings.score.base_s,
                settings.score.attn_s_per_tok2,
            ),
            weight=replica.weight,
            role=Role(replica.role),
            life=LifeCycle(limits),
            dram=drams.get(replica.id),
        )
        for replica in settings.replicas
    ]
    ruler = Ruler(settings.index.anchors_max)
    holdings = Holdings(
        ruler,
        PrefixIndex(settings.events.index_max_bytes),
        TokenChains(settings.events.anchors_max_bytes),
        Loadable(settings.lmcache.prompts_max),
    )
    score = settings.score
    router = Router(
        replicas,
        PolicyName(settings.policy.name),
        affinity=Affinity(settings.identify.max_sessions, settings.identify.idle_s),
        ruler=ruler,
        weights=Weights(
            move_margin_s=score.move_margin_s,
            dram_tok_s=score.dram_tok_s,
            disk_tok_s=score.disk_tok_s,
        ),
        holdings=holdings,
        seed=settings.policy.seed,
    )
    router.disagg = build_disagg(settings)
    return router


def build_disagg(settings: Settings) -> Disagg | None:
    """None where every request stays whole."""
    asked = settings.disagg
    if not asked.connector or asked.mode == "never":
        return None
    terms = Terms(Connector(asked.connector), Mode(asked.mode), asked.min_tokens, asked.margin_s)
    peers = {}
    for replica in settings.replicas:
        default = DEFAULT_KV_PORTS[asked.connector]
        port = default if replica.kv_port is None else replica.kv_port
        host = replica.kv_host or urlsplit(replica.url).hostname or ""
        peers[replica.id] = Peer(host, port, alloc_port=port + ALLOC_PORT_BEHIND)
    return Disagg(terms, peers, TransferRate(asked.transfer_tok_s))


def _dram_models(settings: Settings) -> dict[str, PrefixTree]:
    """By replica id; replicas that load from one LMCache server share one."""
    tokens = settings.lmcache.dram_tokens
    if tokens is None:
        return {}
    server_of = {replica.id: replica.id for replica in settings.replicas}
    for pair in settings.lmcache.instances:
        server, _, replica_id = pair.partition("=")
        server_of[replica_id] = server
    trees = {server: PrefixTree(tokens) for server in server_of.values()}
    return {replica_id: trees[server] for replica_id, server in server_of.items()}


def build_access(settings: Settings) -> Access:
    keys = [
        Key(
            key.name,
            key.sha256,
            key.tenant or key.name,
            frozenset(key.models),
            key.admin,
            key.requests_per_min or math.inf,
            key.tokens_per_min or math.inf,
            key.priority,
        )
        for key in settings.access.keys
    ]
    return Access(keys, commands_open=settings.access.engine_commands)


def build_admission(settings: Settings, router: Router) -> Admission:
    """Only kvproxy's own policy holds work back: the others are compared as others run them."""
    limits = settings.admission
    holds_back = router.policy is PolicyName.SECONDS
    return Admission(
        router,
        AdmissionLimits(
            AllowanceLimits(
                limits.large_prefill_share, limits.large_prefill_burst_s, limits.small_prefill_s
            ),
            backlog_s=limits.backlog_s if holds_back else math.inf,
            ageing_s=limits.ageing_s,
            wait_max_s=limits.wait_max_s,
            queue_max=limits.queue_max,
            ttft_slo_s=math.inf if limits.ttft_slo_s is None else limits.ttft_slo_s,
        ),
    )


def build_reader(settings: Settings) -> Reader:
    asked = settings.canonical
    kept = Representatives(asked.representatives_max_bytes)
    patterns = {Action.FREEZE: asked.freeze, Action.DROP: asked.drop}
    rules = [
        Rule(f"{action}_{index}", where, re.compile(pattern), action)
        for action, listed in patterns.items()
        for index, pattern in enumerate(listed)
        for where in Where
    ]
    if asked.billing_line:
        rules.insert(0, BILLING_LINE)
    block_bytes, points = settings.blocks.block_bytes, settings.identify.max_sessions
    plain = TurnReader(Canonicaliser(Order.PRESERVE, Representatives(0)), block_bytes, points)
    if not asked.enabled:
        return plain
    acting = Canonicaliser(Order(asked.order), kept, Volatile(rules))
    reader = TurnReader(acting, block_bytes, points)
    return DryReader(plain, reader) if asked.dry_run else reader
