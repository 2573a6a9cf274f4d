"""How fast an engine is and how large: the numbers a replica is described by."""

from dataclasses import dataclass

from loadgen.engine.dram_tier import DramTier


@dataclass(frozen=True, slots=True)
class EngineRates:
    """Seconds of one step = step_base_s + prefill + decode, where prefill is tokens /
    prefill_tok_s + attn_s_per_tok2 x (tokens x mean context) summed over requests, and decode is
    decode_step_s + decode_seq_s x sequences + decode_kv_s_per_tok x tokens of their contexts if any
    sequence decodes. `dram_tok_s` and `transfer_tok_s`: tokens loaded per second from the DRAM tier
    and from a peer; 400k are 50 GB/s at 128 KiB a token."""

    prefill_tok_s: float = 10_000.0
    attn_s_per_tok2: float = 0.0
    decode_step_s: float = 0.015
    decode_seq_s: float = 0.0
    decode_kv_s_per_tok: float = 0.0
    dram_tok_s: float = 200_000.0
    step_base_s: float = 0.0
    transfer_tok_s: float = 400_000.0

    def __post_init__(self) -> None:
        if self.prefill_tok_s <= 0 or self.dram_tok_s <= 0 or self.transfer_tok_s <= 0:
            raise ValueError("prefill_tok_s, dram_tok_s and transfer_tok_s must be positive")
        extra = (self.attn_s_per_tok2, self.decode_seq_s, self.decode_kv_s_per_tok)
        if min(*extra, self.step_base_s) < 0:
            raise ValueError("engine rates must not be negative")
        if self.decode_step_s <= 0:
            raise ValueError("decode_step_s must be positive")

    def prefill_s(self, tokens: int, context: int) -> float:
        """Prefill of `tokens` after `context` computed ones. The mean context of the chunk makes
        the sum over a prompt the same however it is cut into chunks."""
        mean_context = context + tokens / 2
        return tokens / self.prefill_tok_s + tokens * mean_context * self.attn_s_per_tok2

    def decode_s(self, sequences: int, context_tokens: int = 0) -> float:
        """Decode part of a step for `sequences` running decodes, over the contexts of all."""
        if not sequences:
            return 0.0
        attention_s = self.decode_kv_s_per_tok * context_tokens
        return self.decode_step_s + self.decode_seq_s * sequences + attention_s


@dataclass(frozen=True, slots=True)
class EngineLimits:
    """Sizes in tokens, sequences and blocks; `dram_tokens` 0 means no DRAM tier."""

    hbm_tokens: int = 1_000_000
    dram_tokens: int = 0
    block_size: int = 16
    max_num_batched_tokens: int = 8192
    max_num_seqs: int = 256
    prefix_caching: bool = True

    def __post_init__(self) -> None:
        if self.block_size < 1 or self.max_num_seqs < 1 or self.dram_tokens < 0:
            raise ValueError("block_size and max_num_seqs must be positive, dram_tokens >= 0")
        if self.hbm_tokens < self.block_size:
            raise ValueError(f"hbm_tokens {self.hbm_tokens} is less than one block")
        if self.max_num_batched_tokens < self.max_num_seqs:
            raise ValueError("max_num_batched_tokens must not be less than max_num_seqs")
        if self.dram_tokens:
            DramTier(self.dram_tokens, self.block_size)  # says what is wrong with it

    @property
    def num_blocks(self) -> int:
        return self.hbm_tokens // self.block_size
