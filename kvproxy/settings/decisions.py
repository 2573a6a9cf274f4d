"""The decision log."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from kvproxy.settings.kinds import Count, Number

Share = Annotated[Number, Field(gt=0, le=1)]


class DecisionsSettings(BaseModel):
    """A file of what was decided, to be replayed under another policy (simulate --replay-log)."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    path: str = Field(
        default="",
        max_length=4096,
        description="File to write decisions to, a JSON object a line; older ones get .1, .2, … "
        "behind their name. Empty: nothing is written. Neither prompts nor keys nor the names of "
        "conversations are in it, only digests under a secret that is made at every start.",
    )
    sample: Share = Field(
        default=1.0,
        description="Share of the conversations that are written, each of them whole. Lower it "
        "to write less, and replay on as much smaller a fleet.",
    )
    max_bytes: Count = Field(
        default=64 * 2**20,
        ge=2**16,
        description="Size at which a file is closed and the next one begun; about 0.5 kB a turn, "
        "and 12 bytes per kB of prompt that is new.",
    )
    files: Count = Field(
        default=8,
        ge=1,
        le=1000,
        description="Files kept, the one being written included. The oldest is removed.",
    )
    queue_max: Count = Field(
        default=4096,
        ge=1,
        description="Decisions that wait for the disk; more are dropped and counted. Raise it "
        "for disks that pause.",
    )
