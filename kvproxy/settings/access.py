"""Who may use the proxy."""

from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from kvproxy.settings.kinds import FROM_LIST, Count, Switch

KEY_NAME = r"^[A-Za-z0-9._-]{1,64}$"


class KeySettings(BaseModel):
    """One API key. `kvproxy key NAME` makes one and prints this entry."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    name: str = Field(
        pattern=KEY_NAME,
        description="What the key is called in errors and in the log of what it asked for.",
    )
    sha256: str = Field(
        pattern=r"^[0-9a-f]{64}$",
        description="SHA-256 of the key in hex; the key itself is kept nowhere.",
    )
    tenant: str = Field(
        default="",
        pattern=r"^[A-Za-z0-9._-]{0,64}$",
        description="Tenants share nothing: neither first-seen spellings nor conversations. Empty: "
        "the key's name. Give keys of one team the same.",
    )
    models: Annotated[tuple[str, ...], FROM_LIST] = Field(
        default=(), description="Models it may use; empty: all."
    )
    admin: Switch = Field(
        default=False,
        description="May see /admin and /metrics and command engines (sleep, LoRA adapters, …).",
    )
    requests_per_min: Count | None = Field(
        default=None, ge=1, description="Requests it may send a minute; more get 429."
    )
    tokens_per_min: Count | None = Field(
        default=None,
        ge=1,
        description="Prompt and answer tokens a minute, counted when an answer ends. Of a stream "
        "that reports no usage (its client asks for it with stream_options.include_usage), or that "
        "its client left, those of the prompt count, as estimated.",
    )
    priority: int | None = Field(
        default=None,
        ge=-999_999_999,
        le=999_999_999,
        description="Whose requests leave the queue first: lower goes first, as in vLLM. Set, it "
        "counts here instead of X-Vllm-Priority, which engines see either way; unset: the header.",
    )


class AccessSettings(BaseModel):
    """API keys. Without any, whoever reaches the port may send prompts."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    keys: Annotated[tuple[KeySettings, ...], FROM_LIST] = Field(
        default=(),
        max_length=10_000,
        description="Keys that clients send as a bearer token or x-api-key. They end here: "
        "replicas see upstream.api_key. Set them before others can reach the port.",
    )
    metrics_open: Switch = Field(
        default=True,
        description="Serve /metrics without a key. Turn it off when the port is public.",
    )
    engine_commands: Switch = Field(
        default=True,
        description="Without keys, pass commands (sleep, LoRA adapters, cache resets, remote "
        "calls) on to an engine. Turn it off where not everybody who reaches the port is trusted; "
        "with keys they need an admin key.",
    )

    @model_validator(mode="after")
    def _keys_differ(self) -> Self:
        for what in ("name", "sha256"):
            first: dict[str, int] = {}
            for index, key in enumerate(self.keys):
                value = str(getattr(key, what))
                if value in first:
                    context = {"at": ("keys", index, what), "value": value, "first": first[value]}
                    message = "'{value}' is also that of access.keys.{first}"
                    raise PydanticCustomError("duplicate", message, context)
                first[value] = index
        return self
