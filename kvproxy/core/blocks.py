"""The byte chain: H_i = xxh3(block_i, seed = H_{i-1}).

Every segment ends a block, so a conversation that only grows keeps all earlier hashes; long
segments are cut, so that a shared beginning of a long text is found too. The beginning of a prompt
is what different conversations share, and they part in the middle of a system text: there blocks
are finer.
"""

from collections.abc import Iterable

from xxhash import xxh3_64_intdigest

from kvproxy.core.items import item
from kvproxy.core.segments import Segment
from kvproxy.core.types import Chain

# The first 32 KiB of text, some 8k tokens, in blocks of an eighth: one or two engine blocks each.
FINE_TEXT_BYTES = 32 * 2**10
_FINER = 8


def extend(
    chain: Chain, segments: Iterable[Segment], block_bytes: int, fine_text_bytes: int = 0
) -> None:
    """Append the blocks of `segments` to `chain` in place; work is proportional to them alone.

    Blocks are of `block_bytes`, finer where they begin within the first `fine_text_bytes` of text.
    """
    assert block_bytes > 0
    fine_bytes = max(1, block_bytes // _FINER)
    parent = chain.end
    text = chain.text_bytes[-1] if chain.text_bytes else 0
    for data, text_start, text_bytes in segments:
        size = len(data)
        # Blocks are fine as long as they begin before this offset of the segment.
        fine_until = min(size, text_start + fine_text_bytes - text) if text < fine_text_bytes else 0
        starts = [*range(0, fine_until, fine_bytes)]
        coarse_from = starts[-1] + fine_bytes if starts else 0
        starts += range(coarse_from, size, block_bytes)
        if not starts:
            starts.append(0)
        ends = [*starts[1:], size]
        chain.hashes.extend(
            [
                parent := xxh3_64_intdigest(data[a:b], parent)
                for a, b in zip(starts, ends, strict=True)
            ]
        )
        last = text + text_bytes
        begin = text - text_start
        chain.text_bytes.extend([max(text, min(begin + end, last)) for end in ends])
        count = len(chain.items)
        chain.segments.extend([count] * (len(ends) - 1))
        chain.segments.append(count + 1)
        chain.items.append(item(data, text_start))
        text = last


def root(*parts: str) -> int:
    """Seed of a chain that must never match that of another model."""
    return xxh3_64_intdigest("\0".join(f"{len(part)}:{part}" for part in parts).encode())
