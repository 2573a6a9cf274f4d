"""What is done for a replica that came with an empty cache."""

from pydantic import BaseModel, ConfigDict, Field

from kvproxy.settings.kinds import Count, Seconds


class WarmSettings(BaseModel):
    """Replicas that join or come back."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    prefixes_max: Count = Field(
        default=4,
        le=1000,
        description="Shared prefixes (tools and system text) that such a replica is sent while it "
        "is idle, so that conversations find them there; 0: none. Raise it where many kinds of "
        "clients share a fleet.",
    )
    max_bytes: Count = Field(
        default=8 * 2**20,
        description="Memory for the hottest of them. Raise it with prefixes_max.",
    )
    slow_start_s: Seconds = Field(
        default=10.0,
        ge=0,
        description="Time in which it comes to take as much waiting prefill as the others "
        "(admission.backlog_s). Raise it for engines that are slow at first (compilation, graphs).",
    )
