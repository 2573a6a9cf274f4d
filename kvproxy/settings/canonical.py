"""Keeping the prefix byte-identical from turn to turn, and what may be changed for it."""

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from kvproxy.settings.kinds import FROM_LIST, Count, Switch

Order = Literal["first_seen", "sorted", "preserve"]


def _pattern(value: str) -> str:
    try:
        re.compile(value)
    except re.error as error:
        raise ValueError(f"is no regular expression: {error}") from error
    return value


Pattern = Annotated[str, Field(min_length=1, max_length=1024), AfterValidator(_pattern)]


class CanonicalSettings(BaseModel):
    """Keeping the prefix byte-identical from turn to turn."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    enabled: Switch = Field(
        default=True,
        description="Splice earlier bytes into bodies that mean the same. Turn it off to rule "
        "kvproxy out when an answer looks wrong.",
    )
    dry_run: Switch = Field(
        default=False,
        description="Count and explain what would be changed, and forward every body as it came. "
        "Turn it on to see what the rest of this section is worth before it acts.",
    )
    order: Order = Field(
        default="first_seen",
        description="Which order of JSON keys and tools is sent: first_seen keeps the first "
        "client's; sorted is the same on every proxy, but changes the order in which guided "
        "decoding writes fields; preserve leaves each request as it is.",
    )
    billing_line: Switch = Field(
        default=True,
        description="Drop the x-anthropic-billing-header line that Claude Code writes, with a new "
        "value each time, before its system text. Turn it off if something behind needs it.",
    )
    freeze: Annotated[tuple[Pattern, ...], FROM_LIST] = Field(
        default=(),
        max_length=32,
        description="Regular expressions for text that changes by itself in system and user texts, "
        "such as a date: the first value that a conversation had is sent ever after. Add one when "
        "`kvproxy explain` names such a text as the cause of misses. Needs a session header.",
    )
    drop: Annotated[tuple[Pattern, ...], FROM_LIST] = Field(
        default=(),
        max_length=32,
        description="Regular expressions for text that is not sent at all, such as a request "
        "number in the system text. Add one when nobody needs what it says.",
    )
    representatives_max_bytes: Count = Field(
        default=64 * 2**20,
        ge=2**16,
        description="Memory for first-seen bytes. Raise it when many different tool sets are in "
        "use and the eviction counter grows.",
    )
