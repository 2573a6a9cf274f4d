"""First guesses of what placing a turn costs."""

from pydantic import BaseModel, ConfigDict, Field

from kvproxy.settings.kinds import Count, Seconds


class ScoreSettings(BaseModel):
    """First guesses of the `seconds` policy; it learns from there."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    prefill_tok_s: Count = Field(
        default=10_000,
        ge=1,
        description="Prompt tokens a replica computes per second, until measured. Set it near "
        "the truth when the first minute after a start matters.",
    )
    base_s: Seconds = Field(
        default=0.02,
        ge=0,
        description="Time to first token of a prompt that is wholly cached, until measured.",
    )
    move_margin_s: Seconds = Field(
        default=2.0,
        ge=0,
        description="Seconds that another replica must be faster by before a conversation "
        "moves. Raise it when conversations wander; lower it when some replicas idle.",
    )
    dram_tok_s: Count = Field(
        default=200_000,
        ge=1,
        description="Tokens a replica loads per second from DRAM (CPU offload, LMCache). A tier "
        "that is slower than computing anew counts for nothing.",
    )
    disk_tok_s: Count = Field(
        default=40_000,
        ge=1,
        description="Tokens a replica loads per second from disk or a remote store.",
    )
