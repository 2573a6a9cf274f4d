"""When requests wait here, and for how long."""

from pydantic import BaseModel, ConfigDict, Field

from kvproxy.settings.kinds import Count, Number, Seconds


class AdmissionSettings(BaseModel):
    """Holding requests back while replicas are busy, in the order that wastes least cache."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    backlog_s: Seconds = Field(
        default=1.0,
        gt=0,
        description="Seconds of prefill a replica may owe before further requests wait here. "
        "Raise it if replicas idle between requests; lower it for a stricter order.",
    )
    ageing_s: Seconds = Field(
        default=600.0,
        gt=0,
        description="Waiting this long halves what a request's cache miss counts in the order. "
        "Lower it for more fairness, raise it for more throughput.",
    )
    wait_max_s: Seconds = Field(
        default=900.0,
        gt=0,
        description="After this long a request goes next, whatever else waits: the bound on "
        "starvation. Lower it when some conversations wait too long under overload.",
    )
    ttft_slo_s: Seconds | None = Field(
        default=None,
        gt=0,
        description="A request whose first token cannot be expected within this time gets 429 "
        "with Retry-After at once; unset: it waits. Set it when clients would rather go elsewhere.",
    )
    keepalive_s: Seconds | None = Field(
        default=None,
        ge=0.01,
        description="A streaming client that waits here longer gets its 200 and a comment line "
        "each time this long passes; an error is then an event of the stream. Unset: it hears "
        "nothing. Set it below the idle timeout of whatever hangs up on waiting clients.",
    )
    large_prefill_share: Number = Field(
        default=0.2,
        gt=0,
        le=1,
        description="Cached prefixes that prefills above small_prefill_s may push out of a replica "
        "at work, in seconds of recompute per second. Raise it where prefill does not slow "
        "decoding (disaggregated prefill); lower it when answers crawl under load.",
    )
    large_prefill_burst_s: Seconds = Field(
        default=10.0,
        gt=0,
        description="How much of it may be pushed out at once before that share binds. Raise it "
        "for longer prompts.",
    )
    small_prefill_s: Seconds = Field(
        default=2.0,
        ge=0,
        description="Prefills up to this are never held back by that share.",
    )
    queue_max: Count = Field(
        default=10_000,
        ge=1,
        description="Requests that may wait at a time; further ones get 429.",
    )
