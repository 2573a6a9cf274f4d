"""What an emulated replica is: its sizes and rates, its model name, its clock."""

from dataclasses import dataclass
from typing import Literal

from loadgen.emulator.block_events import HashForm, Style
from loadgen.emulator.kv_connectors import CONNECTORS, LEASE_S
from loadgen.emulator.planted import Planted
from loadgen.engine_model import EngineLimits, EngineRates

VLLM_VERSION = "0.32.0"  # the version whose wire format is reproduced


@dataclass(frozen=True, slots=True)
class EmulatorSettings:
    """Tokens and seconds. `engine` is whose pages and events are shown; `time_scale` virtual
    seconds pass in one real second; `chunk_interval_s` (real) is the least time between two chunks
    of a stream, 0 = one chunk per token; `kv_events` publishes what the caches hold, in the style
    of vLLM from 0.24 on or before it, keeping so many batches for replay; `lmcache` adds a
    coordinator that knows the DRAM tiers; `responses_stored` is how many of /v1/responses can be
    continued by id, 0 as vLLM's default; `scale_out` opens the /render routes; `keeps_billing`
    prints Claude Code's changing billing line into the prompt, as vLLM before 0.32 did;
    `kv_connector` computes prompts for, and loads them from, the others of its fleet, as that one
    of vLLM's or SGLang's does, holding what it computed for `kv_lease_s`;
    `tokenizer` is a directory with a tokenizer.json, None = the stand-in tokeniser; `planted` are
    misconfigurations, for those who look for them."""

    engine: Literal["vllm", "sglang"] = "vllm"
    model: str = "emu"
    hbm_tokens: int = 1_000_000
    dram_tokens: int = 0
    block_size: int = 16
    prefill_tok_s: float = 10_000.0
    attn_s_per_tok2: float = 0.0
    decode_step_s: float = 0.015
    decode_seq_s: float = 0.0
    decode_kv_s_per_tok: float = 0.0
    dram_tok_s: float = 200_000.0
    step_base_s: float = 0.0
    max_num_batched_tokens: int = 8192
    max_num_seqs: int = 256
    max_model_len: int = 1_000_000
    prefix_caching: bool = True
    time_scale: float = 1.0
    chunk_interval_s: float = 0.0
    seed: int = 0
    tokenizer: str | None = None
    access_log: bool = False
    kv_events: bool = False
    kv_events_style: Style = "map"
    kv_events_hashes: HashForm = "int"
    kv_events_buffer: int = 10_000
    lmcache: bool = False
    responses_stored: int = 0
    scale_out: bool = False
    keeps_billing: bool = False
    cache_dtype: str = "auto"
    planted: frozenset[Planted] = frozenset()
    kv_connector: str = ""
    transfer_tok_s: float = 400_000.0
    kv_lease_s: float = LEASE_S
    body_bytes_max: int = 256 * 1024 * 1024

    def __post_init__(self) -> None:
        if self.time_scale <= 0:
            raise ValueError("time_scale must be positive")
        if self.max_model_len < 1:
            raise ValueError("max_model_len must be positive")
        if self.engine == "sglang" and (self.dram_tokens or self.kv_events_style == "array"):
            raise ValueError("the SGLang personality has one tier, and events as maps")
        if self.kv_connector and self.kv_connector not in CONNECTORS:
            raise ValueError(f"kv_connector is one of {', '.join(CONNECTORS)}")
        if self.lmcache and not self.dram_tokens:
            raise ValueError("an LMCache coordinator needs replicas with dram_tokens")
        self.rates(), self.limits()  # both check their numbers

    @property
    def context_tokens(self) -> int:
        """Longest sequence served: never more than HBM holds, or it could never finish."""
        limits = self.limits()
        return min(self.max_model_len, limits.num_blocks * limits.block_size)

    def rates(self) -> EngineRates:
        return EngineRates(
            prefill_tok_s=self.prefill_tok_s,
            attn_s_per_tok2=self.attn_s_per_tok2,
            decode_step_s=self.decode_step_s,
            decode_seq_s=self.decode_seq_s,
            decode_kv_s_per_tok=self.decode_kv_s_per_tok,
            dram_tok_s=self.dram_tok_s,
            step_base_s=self.step_base_s,
            transfer_tok_s=self.transfer_tok_s,
        )

    def limits(self) -> EngineLimits:
        return EngineLimits(
            hbm_tokens=self.hbm_tokens,
            dram_tokens=self.dram_tokens,
            block_size=self.block_size,
            max_num_batched_tokens=max(self.max_num_batched_tokens, self.max_num_seqs),
            max_num_seqs=self.max_num_seqs,
            prefix_caching=self.prefix_caching,
        )
