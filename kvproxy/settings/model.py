"""Everything an operator can change. Flags, environment, files and pages are made from this model.

Every description says why or when to change the key. Values are validated strictly: a wrong type,
an unknown key or a bound exceeded is an error, never a guess.
"""

from typing import Annotated, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from kvproxy.core.identify import HEADER_RULES
from kvproxy.settings.access import AccessSettings
from kvproxy.settings.admin import AdminSettings
from kvproxy.settings.admission import AdmissionSettings
from kvproxy.settings.canonical import CanonicalSettings
from kvproxy.settings.decisions import DecisionsSettings
from kvproxy.settings.disagg import DisaggSettings
from kvproxy.settings.discovery import DiscoverySettings
from kvproxy.settings.epp import EppSettings
from kvproxy.settings.events import EventsSettings, check_shards
from kvproxy.settings.kinds import FROM_LIST, Count, Seconds, Switch
from kvproxy.settings.lmcache import LmcacheSettings
from kvproxy.settings.pools import ModelSettings, PolicyName, check_models, from_mapping
from kvproxy.settings.replica import ReplicaSettings, check_roles
from kvproxy.settings.score import ScoreSettings
from kvproxy.settings.server import ServerSettings, UpstreamSettings
from kvproxy.settings.store import StoreSettings
from kvproxy.settings.tokens import TokensSettings
from kvproxy.settings.tracing import TracingSettings
from kvproxy.settings.warm import WarmSettings
from kvproxy.settings.workers import check_alone

LogLevel = Literal["debug", "info", "warning", "error"]
LogFormat = Literal["auto", "text", "json"]
HeaderName = Annotated[str, Field(pattern=r"^[A-Za-z0-9!#$%&'*+.^_`|~-]{1,128}$")]


class Section(BaseModel):
    """What all groups of keys share."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


class IdentifySettings(Section):
    """How turns of one conversation are recognised."""

    session_headers: Annotated[tuple[HeaderName, ...], FROM_LIST] = Field(
        default=tuple(rule.session for rule in HEADER_RULES),
        max_length=32,
        description="Request headers that name the conversation, strongest first. Add the "
        "header of your own client at the front.",
    )
    max_sessions: Count = Field(
        default=100_000,
        ge=1,
        description="Conversations remembered at a time; the longest unused goes first. Raise "
        "it when more than that many are alive at once.",
    )
    idle_s: Seconds = Field(
        default=14_400.0,
        gt=0,
        description="A conversation unused for this long is forgotten. Raise it when people come "
        "back later and the replicas' slower tiers still hold their blocks.",
    )


class ExplainSettings(Section):
    """Remembering enough to say why a turn found less of its prefix than it could have."""

    sessions_max_bytes: Count = Field(
        default=64 * 2**20,
        ge=2**16,
        description="Memory for what conversations last sent, as digests; some 10 kB for 400 kB of "
        "prompt. Raise it when breaks of conversations that are alive go unnoticed.",
    )
    requests_max_bytes: Count = Field(
        default=16 * 2**20,
        ge=2**16,
        description="Memory for explanations of past requests, about 1 kB each. Raise it to ask "
        "about requests further back.",
    )


class BlocksSettings(Section):
    """How prompts are cut for comparison."""

    block_bytes: Count = Field(
        default=1024,
        ge=64,
        le=2**20,
        description="Bytes in a block, about four to a token. Lower it for short prompts; it "
        "must be the same on every proxy that shares state.",
    )
    heads_max_bytes: Count = Field(
        default=64 * 2**20,
        ge=2**16,
        description="Memory for what bodies begin with (tools, system texts), as digests: about "
        "1 kB each. Raise it when more than some ten thousand are in use at once.",
    )
    responses_max_bytes: Count = Field(
        default=32 * 2**20,
        ge=2**16,
        description="Memory for the prompts of responses that a conversation may go on from by "
        "previous_response_id, as digests; some 12 kB for 400 kB of prompt. Raise it when such "
        "turns come later than that many responses.",
    )


class IndexSettings(Section):
    """What is remembered about which replica holds what."""

    hbm_tokens_default: Count = Field(
        default=1_000_000,
        ge=1,
        description="KV cache size assumed for a replica that neither tells it nor has "
        "hbm_tokens set.",
    )
    anchors_max: Count = Field(
        default=200_000,
        ge=1,
        description="Known ties between bytes and token counts. Raise it with max_sessions: "
        "without one, tokens are estimated.",
    )


class PolicySettings(Section):
    """How a replica is chosen."""

    name: PolicyName = Field(
        default="seconds",
        description="seconds sends each turn where it starts soonest; the others are there to "
        "compare with, and longest_prefix shows what crowding on one replica costs.",
    )
    seed: Count = Field(
        default=0,
        le=2**63 - 1,
        description="Seed of random choices and tie breaks. Keep it the same on every proxy, so "
        "that all of them place a new conversation alike.",
    )


class ProbeSettings(Section):
    """Asking replicas how they are."""

    interval_s: Seconds = Field(
        default=5.0,
        gt=0,
        description="Time between probes of one replica. Lower it to see failures sooner.",
    )
    timeout_s: Seconds = Field(
        default=2.0,
        gt=0,
        description="Time for a replica to answer a probe. Raise it when busy engines answer late.",
    )
    unhealthy_after: Count = Field(
        default=3,
        ge=1,
        description="Failures in a row, of probes or of requests, before a replica gets no new "
        "work. Raise it when replicas are taken out without need.",
    )
    stall_s: Seconds = Field(
        default=60.0,
        gt=0,
        description="A replica that holds requests and moves none of its counters for this long "
        "is taken out although /health answers. Raise it for engines with very long steps.",
    )
    cool_max_s: Seconds = Field(
        default=60.0,
        ge=0,
        description="Longest time a replica that keeps failing stays out after it looks well "
        "again. Lower it when few replicas carry everything.",
    )


class LogSettings(Section):
    """What is written to standard error."""

    level: LogLevel = Field(
        default="info", description="Least level written. debug explains single decisions."
    )
    format: LogFormat = Field(
        default="auto", description="auto writes text to a terminal and JSON otherwise."
    )
    access: Switch = Field(
        default=True,
        description="One line per request. Turn it off when the metrics are enough.",
    )


class Settings(Section):
    """All settings of `kvproxy serve`."""

    server: ServerSettings = ServerSettings()
    discovery: DiscoverySettings = DiscoverySettings()
    replicas: Annotated[tuple[ReplicaSettings, ...], FROM_LIST] = Field(
        default=(),
        validate_default=True,
        max_length=1024,
        description="The engines to send requests to; a plain URL is enough for each. They may be "
        "left out where `discovery` finds some.",
    )
    models: Annotated[tuple[ModelSettings, ...], BeforeValidator(from_mapping)] = Field(
        default=(),
        max_length=1024,
        description="Names that clients may send for models, as a list or as `name: model`: "
        "aliases, weighted and canary splits. Models are known by their own names without it.",
    )
    upstream: UpstreamSettings = UpstreamSettings()
    access: AccessSettings = AccessSettings()
    admin: AdminSettings = AdminSettings()
    identify: IdentifySettings = IdentifySettings()
    canonical: CanonicalSettings = CanonicalSettings()
    explain: ExplainSettings = ExplainSettings()
    blocks: BlocksSettings = BlocksSettings()
    index: IndexSettings = IndexSettings()
    policy: PolicySettings = PolicySettings()
    score: ScoreSettings = ScoreSettings()
    admission: AdmissionSettings = AdmissionSettings()
    probe: ProbeSettings = ProbeSettings()
    warm: WarmSettings = WarmSettings()
    events: EventsSettings = EventsSettings()
    lmcache: LmcacheSettings = LmcacheSettings()
    disagg: DisaggSettings = DisaggSettings()
    store: StoreSettings = StoreSettings()
    tokens: TokensSettings = TokensSettings()
    epp: EppSettings = EppSettings()
    log: LogSettings = LogSettings()
    decisions: DecisionsSettings = DecisionsSettings()
    tracing: TracingSettings = TracingSettings()

    @field_validator("replicas", mode="after")
    @classmethod
    def _can_be_known(
        cls, value: tuple[ReplicaSettings, ...], info: ValidationInfo
    ) -> tuple[ReplicaSettings, ...]:
        discovery = info.data.get("discovery")
        if not value and discovery is not None and not discovery.sources:
            raise PydanticCustomError("missing", "no replica")
        return value

    @model_validator(mode="after")
    def _replicas_differ(self) -> Self:
        for what in ("url", "id"):
            first: dict[str, int] = {}
            for index, replica in enumerate(self.replicas):
                value = str(getattr(replica, what))
                if value in first:
                    context = {
                        "at": ("replicas", index, what),
                        "value": value,
                        "first": first[value],
                    }
                    message = "'{value}' is also that of replicas.{first}"
                    raise PydanticCustomError("duplicate", message, context)
                first[value] = index
        return self

    @model_validator(mode="after")
    def _names_differ(self) -> Self:
        check_models(self.models)
        return self

    @model_validator(mode="after")
    def _somebody_answers(self) -> Self:
        if self.replicas:
            check_roles(self.replicas)
        store, legs = self.store, self.disagg.connector
        needs = {
            "disagg.connector is set: requests in two legs need": bool(legs),
            "decisions.path is set: that file needs": bool(self.decisions.path),
            "tokens.return_token_ids is on: answers it is in need": self.tokens.return_token_ids,
            "tokens.ask_templates is on: readers that know what it tells need": (
                self.tokens.ask_templates
            ),
            "store.share_spellings is on: spellings of other proxies need": bool(store.url)
            and store.share_spellings,
        }
        check_alone(self.server.workers, needs)
        check_shards(self.events, shared=bool(store.url))
        return self
