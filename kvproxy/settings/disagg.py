"""Computing prompts on one replica and answering them on another."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from kvproxy.settings.kinds import Count, Seconds, Switch

ConnectorName = Literal["", "nixl", "mooncake", "lmcache", "sglang", "p2p_nccl", "offloading"]

# Where each connector listens unless it was told otherwise; 0: it is told by the answer itself.
DEFAULT_KV_PORTS = {
    "nixl": 0,
    "mooncake": 8998,
    "lmcache": 7300,
    "sglang": 8998,
    "p2p_nccl": 21001,
    "offloading": 0,
}
# LMCache's receivers have a second port; its examples keep it a hundred above the first.
ALLOC_PORT_BEHIND = 100


class DisaggSettings(BaseModel):
    """Computing prompts on one replica and answering them on another."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    connector: ConnectorName = Field(
        default="",
        description="How the engines hand KV to each other: the kv_connector they were started "
        "with (NixlConnector, MooncakeConnector, LMCache's PD, P2pNcclConnector, "
        "OffloadingConnector with its P2P tier) or SGLang's bootstrap. Empty: every request stays "
        "whole.",
    )
    mode: Literal["auto", "always", "never"] = Field(
        default="auto",
        description="auto computes a prompt elsewhere when that costs fewer seconds in all; always "
        "does so with every prompt that misses min_tokens; never keeps requests whole. Needs the "
        "seconds policy.",
    )
    min_tokens: Count = Field(
        default=2048,
        ge=1,
        description="Prompts that miss fewer tokens are computed where they are answered. Lower it "
        "when even short prefills hurt answers under way.",
    )
    margin_s: Seconds = Field(
        default=0.1,
        ge=0,
        description="Seconds that computing elsewhere must gain. Raise it when prompts go "
        "elsewhere for little.",
    )
    hand_on_tokens: Switch = Field(
        default=False,
        description="Ask the replica that computes for the prompt's tokens and hand them on (NIXL; "
        "vLLM 0.32 or newer): 6 bytes each. Turn it on where a chat template prints the time: an "
        "engine may crash over two legs whose prompts differ in length.",
    )
    transfer_tok_s: Count = Field(
        default=400_000,
        ge=1,
        description="Tokens of KV that travel between replicas per second, until measured: bytes "
        "per second of the network over bytes of KV per token.",
    )
