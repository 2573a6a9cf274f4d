"""First guesses of what placing a turn costs."""

import json
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from kvproxy.core.tier_costs import TierCosts
from kvproxy.settings.kinds import Count, Number, Seconds


class ScoreSettings(BaseModel):
    """First guesses of the `seconds` policy; it learns from there."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    prefill_tok_s: Count = Field(
        default=10_000,
        ge=1,
        description="Prompt tokens a replica computes per second, until one that serves its model "
        "is measured. Set it near the truth when the first requests after a start matter.",
    )
    attn_s_per_tok2: Number = Field(
        default=0.0,
        ge=0,
        description="Prefill seconds that each token takes more for each token of context before "
        "it, until measured. Set it with prefill_tok_s where prompts are long.",
    )
    preset_file: str = Field(
        default="",
        description="File of `kvproxy calibrate --json`: prefill_tok_s, attn_s_per_tok2 and "
        "dram_tok_s are taken from it unless given. Set it to the file of the replicas' machine.",
    )
    base_s: Seconds = Field(
        default=0.02,
        ge=0,
        description="Time to first token of a prompt that is wholly cached, until measured: here "
        "or at another replica of the model.",
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

    @model_validator(mode="before")
    @classmethod
    def _from_preset(cls, value: Any) -> Any:
        file = value.get("preset_file") if isinstance(value, dict) else None
        if not isinstance(file, str) or not file:
            return value
        try:
            costs = TierCosts.from_json(json.loads(Path(file).read_text()))
        except (OSError, ValueError) as error:
            context = {"at": ("preset_file",), "why": f"{file}: {error}"}
            raise PydanticCustomError("preset_file", "{why}", context) from None
        measured = {
            "prefill_tok_s": max(1, round(costs.prefill_tok_s)),
            "attn_s_per_tok2": costs.attn_s_per_tok2,
            "dram_tok_s": max(1, round(costs.dram_tok_s)),
        }
        return measured | value
