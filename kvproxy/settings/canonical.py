"""Keeping the prefix byte-identical from turn to turn, and what may be changed for it."""

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from kvproxy.settings.kinds import FROM_LIST, Count, Switch

Order = Literal["first_seen", "sorted", "preserve"]
CacheControl = Literal["forward", "strip"]


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
    cache_control: CacheControl = Field(
        default="forward",
        description="Marks of what is to be cached (cache_control): forward leaves them in bodies; "
        "strip takes them out where engines do not know them. vLLM before 0.32 prints a mark on a "
        "chat tool into the prompt, so that one which moves costs the cache: strip there.",
    )
    cache_hints: Switch = Field(
        default=True,
        description="Take such a mark for a hint of when its client will be back (5m, 1h): what is "
        "still wanted is dearer to push out, and its conversation is remembered for as long. Turn "
        "it off when clients mark everything for longer than they mean.",
    )
    echo: Switch = Field(
        default=True,
        description="Where a client returns a tool call, or an answer in JSON, spelled otherwise "
        "than it was generated, send what was generated, so that the blocks of the answer are of "
        "use. With order: first_seen only. Turn it off to spare looking at answers.",
    )
    echo_max_bytes: Count = Field(
        default=64 * 2**20,
        ge=0,
        description="Memory for tool calls of answers under way, all together; answers that find "
        "no room are not remembered. Raise it for thousands of streams at a time.",
    )
    representatives_max_bytes: Count = Field(
        default=64 * 2**20,
        ge=2**16,
        description="Memory for first-seen bytes. Raise it when many different tool sets are in "
        "use and the eviction counter grows.",
    )
