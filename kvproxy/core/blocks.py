"""The byte chain: H_i = xxh3(block_i, seed = H_{i-1}).

Every segment ends a block, so a conversation that only grows keeps all earlier hashes; long
segments are cut, so that a shared beginning of a long text is found too. The beginning of a prompt
is what different conversations share, and they part in the middle of a system text: there blocks
are finer.
"""

from collections.abc import Callable, Iterable
from functools import lru_cache
from struct import Struct

from xxhash import xxh3_64_intdigest

from kvproxy.core.items import item
from kvproxy.core.segments import Segment
from kvproxy.core.types import Chain

# The first 32 KiB of text, some 8k tokens, in blocks of an eighth: one or two engine blocks each.
FINE_TEXT_BYTES = 32 * 2**10
_FINER = 8
_SLICED_AT_ONCE = 64


def extend(
    chain: Chain, segments: Iterable[Segment], block_bytes: int, fine_text_bytes: int = 0
) -> None:
    """Append the blocks of `segments` to `chain` in place; work is proportional to them alone.

    Blocks are of `block_bytes`, finer where they begin within the first `fine_text_bytes` of text.
    """
    assert block_bytes > 0
    fine_bytes = max(1, block_bytes // _FINER)
    text = chain.text_bytes[-1] if chain.text_bytes else 0
    number = len(chain.items)
    texts: list[int] = []
    numbers: list[int] = []
    # Every hash is the seed of the next one: `seeds` are what digests add to `links`.
    links = [chain.end]
    seeds = iter(links)
    for segment in segments:
        data, before, at = segment.data, text - segment.text_start, 0
        last = text + segment.text_bytes
        rest = len(data) - 1
        fine = fine_text_bytes - before if text < fine_text_bytes else 0
        while rest - at >= (cut_bytes := fine_bytes if at < fine else block_bytes):
            count = min((rest - at) // cut_bytes, _SLICED_AT_ONCE)
            if at < fine:
                count = min(count, -((at - fine) // fine_bytes))
            pieces = _slicer(cut_bytes, count)(data, at)
            links += map(xxh3_64_intdigest, pieces, seeds)
            first = before + at + cut_bytes
            at += count * cut_bytes
            cuts = range(first, before + at + 1, cut_bytes)
            if first < text or before + at > last:
                # No text before it begins, no more where it has ended.
                texts += [min(max(text, cut), last) for cut in cuts]
            else:
                texts += cuts
            numbers += [number] * count
        links.append(xxh3_64_intdigest(data[at:], next(seeds)))
        number += 1
        texts.append(last)
        numbers.append(number)
        chain.items.append(item(data, segment.text_start))
        text = last
    chain.hashes.fromlist(links[1:])
    chain.text_bytes.fromlist(texts)
    chain.segments.fromlist(numbers)


@lru_cache(1024)
def _slicer(size: int, count: int) -> Callable[[bytes, int], tuple[bytes, ...]]:
    """Slices all at once, three times as fast as one by one."""
    return Struct(f"{size}s" * count).unpack_from


def root(*parts: str) -> int:
    """Seed of a chain that must never match that of another model."""
    return xxh3_64_intdigest("\0".join(f"{len(part)}:{part}" for part in parts).encode())
