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
    append, items = chain.hashes.append, chain.items
    for data, text_start, text_bytes in segments:
        size, last = len(data), text + text_bytes
        if size > fine_bytes:
            fine_until = text_start + fine_text_bytes - text if text < fine_text_bytes else 0
            start = 0
            for cuts in _cuts(size, fine_until, fine_bytes, block_bytes):
                for end in cuts:
                    parent = digest(data[start:end], parent)
                    append(parent)
                    start = end
                if cuts:
                    texts.extend(_measured(cuts, text, text_start, last))
                    numbers.extend([count] * len(cuts))
            parent = digest(data[start:], parent)
        else:
            parent = digest(data, parent)
        append(parent)
        count += 1
        texts.append(last)
        numbers.append(count)
        items.append(item(data, text_start))
        text = last


def _measured(cuts: range, text: int, text_start: int, last: int) -> Sequence[int]:
    """Text up to each cut: none before it begins, no more where it has ended."""
    before = text - text_start
    if text_start <= cuts[0] and before + cuts[-1] <= last:
        return range(before + cuts.start, before + cuts.stop, cuts.step)
    return [min(max(text, before + cut), last) for cut in cuts]


def _cuts(size: int, fine_until: int, fine_bytes: int, block_bytes: int) -> Sequence[range]:
    """Where a segment is cut: finely as long as blocks begin before `fine_until`."""
    if fine_until <= 0:
        return (range(block_bytes, size, block_bytes),)
    fine = range(fine_bytes, min(size, fine_until + fine_bytes), fine_bytes)
    return fine, range(fine[-1] + block_bytes, size, block_bytes)


def root(*parts: str) -> int:
    """Seed of a chain that must never match that of another model."""
    return xxh3_64_intdigest("\0".join(f"{len(part)}:{part}" for part in parts).encode())
