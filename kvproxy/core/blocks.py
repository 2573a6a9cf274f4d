"""The byte chain: H_i = xxh3(block_i, seed = H_{i-1}).

Every segment ends a block, so a conversation that only grows keeps all earlier hashes; long
segments are cut, so that a shared beginning of a long text is found too. The beginning of a prompt
is what different conversations share, and they part in the middle of a system text: there blocks
are finer.
"""

from collections.abc import Iterable

from xxhash import xxh3_64_intdigest

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
    count = chain.segments[-1] if chain.segments else 0
    for data, text_start, text_bytes in segments:
        start, measured = 0, text
        while start < len(data) or not start:
            end = start + (fine_bytes if measured < fine_text_bytes else block_bytes)
            parent = xxh3_64_intdigest(data[start:end], parent)
            measured = text + min(max(0, end - text_start), text_bytes)
            chain.hashes.append(parent)
            chain.text_bytes.append(measured)
            chain.segments.append(count)
            start = end
        text += text_bytes
        count += 1
        chain.segments[-1] = count


def root(*parts: str) -> int:
    """Seed of a chain that must never match that of another model."""
    return xxh3_64_intdigest("\0".join(f"{len(part)}:{part}" for part in parts).encode())
