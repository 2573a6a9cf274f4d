"""What is measured: sizes that follow from the longest context alone."""

from dataclasses import dataclass

BLOCKS = (16, 256)  # vLLM's block, LMCache's chunk
_NEW = (16, 128, 512, 1024, 2048, 4096, 8192, 16_384)
_BATCHES = (1, 4, 16, 32, 64, 128)
_LOADS = (256, 1024, 4096, 16_384, 32_768)
_STEP_TOKENS_MAX = 8192  # an engine's budget of a step
_HOST_TOKENS_MAX = 32_768


@dataclass(frozen=True, slots=True)
class Plan:
    """Tokens throughout. `prefill` are (new, context), `decode` (batch, context); `prompts` are
    computed from nothing in steps of `chunk`; `loads` come from `host_tokens` of host memory.
    `overlap` is the (new, context) during which loads are measured again."""

    max_context: int
    chunk: int
    prefill: tuple[tuple[int, int], ...]
    decode: tuple[tuple[int, int], ...]
    prompts: tuple[int, ...]
    loads: tuple[int, ...]
    overlap: tuple[int, int]
    host_tokens: int

    @classmethod
    def up_to(cls, max_context: int) -> "Plan":
        if max_context < 512:
            raise ValueError("max_context must be at least 512")
        chunk = min(_STEP_TOKENS_MAX, max_context // 4)
        contexts = [0, *(max_context // part for part in (32, 8, 4, 2, 1))]
        news = [new for new in _NEW if new <= 2 * chunk]
        decode_contexts = [max_context // part for part in (64, 16, 4, 1)]
        host_tokens = min(_HOST_TOKENS_MAX, max_context // max(BLOCKS) * max(BLOCKS))
        return cls(
            max_context=max_context,
            chunk=chunk,
            prefill=tuple((n, min(c, max_context - n)) for n in news for c in contexts),
            decode=tuple(
                (batch, context - 1)
                for context in decode_contexts
                for batch in _BATCHES
                if batch * context <= 2 * max_context
            ),
            prompts=(max_context // 4, max_context),
            loads=tuple(tokens for tokens in _LOADS if tokens <= host_tokens),
            overlap=(chunk, max_context // 4),
            host_tokens=host_tokens,
        )

    @property
    def cache_tokens(self) -> int:
        """KV cache that all of it needs."""
        return max(self.max_context, *(batch * (context + 1) for batch, context in self.decode))
