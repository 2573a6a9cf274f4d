"""The byte chain: H_i = xxh3(block_i, seed = H_{i-1}).

Every segment ends a block, so a conversation that only grows keeps all earlier hashes; long
segments are cut, so that a shared beginning of a long text is found too. The beginning of a prompt
is what different conversations share, and they part in the middle of a system text: there blocks
are finer.
"""

from collections.abc import Iterable, Sequence

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
    parent, digest = chain.end, xxh3_64_intdigest
    texts, numbers = chain.text_bytes, chain.segments
    text, count = texts[-1] if texts else 0, len(chain.items)
    append = chain.hashes.append
    for data, text_start, text_bytes in segments:
        size, last = len(data), text + text_bytes
        count += 1
        if size <= fine_bytes:
            parent = digest(data, parent)
            append(parent)
            texts.append(last)
        else:
            fine_until = text_start + fine_text_bytes - text if text < fine_text_bytes else 0
            ends = _ends(size, fine_until, fine_bytes, block_bytes)
            start = 0
            for end in ends:
                parent = digest(data[start:end], parent)
                append(parent)
                start = end
            texts.extend(_measured(ends, text, text_start, last))
            if len(ends) > 1:
                numbers.extend([count - 1] * (len(ends) - 1))
        numbers.append(count)
        chain.items.append(item(data, text_start))
        text = last


def _measured(ends: Sequence[int], text: int, text_start: int, last: int) -> list[int]:
    """Text up to the end of each block: none before it begins, no more where it has ended."""
    before = text - text_start
    measured = [before + end for end in ends]
    for index in range(len(measured)):
        if measured[index] >= text:
            break
        measured[index] = text
    for index in range(len(measured) - 1, -1, -1):
        if measured[index] <= last:
            break
        measured[index] = last
    return measured


def _ends(size: int, fine_until: int, fine_bytes: int, block_bytes: int) -> list[int]:
    """Where the blocks of a segment end: fine ones as long as they begin before `fine_until`."""
    if fine_until <= 0:
        return [*range(block_bytes, size, block_bytes), size]
    ends = list(range(fine_bytes, min(size, fine_until) + fine_bytes, fine_bytes))
    ends += range((ends[-1] if ends else 0) + block_bytes, size + block_bytes, block_bytes)
    while len(ends) > 1 and ends[-2] >= size:
        ends.pop()
    ends[-1] = size
    return ends


def root(*parts: str) -> int:
    """Seed of a chain that must never match that of another model."""
    return xxh3_64_intdigest("\0".join(f"{len(part)}:{part}" for part in parts).encode())
