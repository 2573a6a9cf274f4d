"""Where LMCache's servers are asked what they hold."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from kvproxy.settings.kinds import FROM_LIST, Count, Seconds

Url = Annotated[str, Field(pattern=r"^(https?://[^/?#\s]+/?)?$")]
InstancePair = Annotated[str, Field(pattern=r"^[^=\s]+=[^=\s]+$")]


class LmcacheSettings(BaseModel):
    """LMCache servers behind the replicas: what they hold outlives the replicas' own cache."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    coordinator_url: Url = Field(
        default="",
        description="Where `lmcache coordinator` listens, such as http://10.0.0.1:9300; it knows "
        "what every server holds. Empty: nobody is asked.",
    )
    controller_url: Url = Field(
        default="",
        description="Where the older `lmcache_controller` listens. It is asked only while there "
        "is no coordinator, and names a single holder of each chunk.",
    )
    chunk_tokens: Count = Field(
        default=256,
        ge=1,
        description="Tokens in a chunk. Set it to the servers' --chunk-size when they cannot be "
        "asked: their own answer wins.",
    )
    dram_tokens: Count | None = Field(
        default=None,
        ge=1,
        description="Tokens that fit a server's DRAM; set it where no coordinator tells what is "
        "held there, and it is modelled by what was sent. Unset: only a coordinator tells.",
    )
    save_decode: bool = Field(
        default=False,
        description="Whether the servers store what is generated, too (LMCache's "
        "save_decode_cache). For the model that dram_tokens asks for: coordinators tell by "
        "themselves.",
    )
    world_size: Count = Field(
        default=1,
        ge=1,
        le=4096,
        description="Ranks of one replica (tensor times pipeline parallel size): each stores its "
        "own part of a chunk.",
    )
    interval_s: Seconds = Field(
        default=5.0,
        gt=0,
        description="Time between looks at the servers, and from an answer to the question where "
        "its prompt was stored. Lower it when DRAM is small and turns over quickly.",
    )
    timeout_s: Seconds = Field(
        default=2.0,
        gt=0,
        description="Time for an answer. Requests never wait for it.",
    )
    prompts_max: Count = Field(
        default=4096,
        ge=1,
        description="Prompts whose chunks are remembered, 13 kB for one of 100k tokens. Raise it "
        "with identify.max_sessions.",
    )
    instances: Annotated[tuple[InstancePair, ...], FROM_LIST] = Field(
        default=(),
        max_length=4096,
        description="Which replica loads from which server, as `server=replica` (their ids), one "
        "entry a pair. Unset: a server serves the replicas of its own host.",
    )
