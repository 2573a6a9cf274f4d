"""Listening to what replicas announce about their caches."""

from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from pydantic_core import PydanticCustomError

from kvproxy.settings.kinds import Count, Seconds, Switch


def _word(value: object) -> object:
    """YAML reads a bare on or off as true or false."""
    return {True: "on", False: "off"}.get(value, value) if isinstance(value, bool) else value


Enabled = Annotated[Literal["auto", "on", "off"], BeforeValidator(_word)]


class EventsSettings(BaseModel):
    """KV events of the engines: which blocks they hold, exactly, and from one step to the next."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    enabled: Enabled = Field(
        default="auto",
        description="auto listens to replicas that publish events, on also warns about those that "
        "do not, off relies on what was sent where. Events make predictions exact under eviction.",
    )
    shard_across_proxies: Switch = Field(
        default=False,
        description="Listen to a share of the replicas only, and learn of the others through "
        "`store.url` from the proxies that listen there. Turn it on, on all proxies alike, where "
        "listening to all takes a tenth of a core or more: 16 replicas that prefill all the time.",
    )
    index_max_bytes: Count = Field(
        default=512 * 2**20,
        ge=2**20,
        description="Memory for announced blocks, up to 110 bytes a block and replica. Raise it "
        "when kvproxy_index_unused_blocks with reason refused grows.",
    )
    anchors_max_bytes: Count = Field(
        default=128 * 2**20,
        ge=2**20,
        description="Memory for the token blocks of known prompts, 8 bytes a block. Raise it with "
        "identify.max_sessions.",
    )
    discover_s: Seconds = Field(
        default=30.0,
        gt=0,
        description="Time between looks at whether a replica publishes events, and where.",
    )
    idle_s: Seconds = Field(
        default=10.0,
        gt=0,
        description="After this long without events a replica is asked whether any were lost. "
        "Lower it when replicas are often idle and restarted.",
    )
    replay_timeout_s: Seconds = Field(
        default=5.0,
        gt=0,
        description="Longest silence of a replica while it repeats events. Raise it when busy "
        "engines answer late.",
    )


def check_shards(events: EventsSettings, *, shared: bool) -> None:
    """Raises where shares of the replicas could not be told to anybody."""
    if events.shard_across_proxies and not shared:
        context = {"at": ("events", "shard_across_proxies")}
        message = "needs store.url: proxies tell each other through it"
        raise PydanticCustomError("shards_alone", message, context)
