"""The byte chain: H_i = xxh3(block_i, seed = H_{i-1}).

Every segment ends a block, so a conversation that only grows keeps all earlier hashes; long
segments are cut, so that a shared beginning of a long text is found too. The beginning of a prompt
is what different conversations share, and they part in the middle of a system text: there blocks
are finer.
"""

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from itertools import repeat
from struct import Struct

from xxhash import xxh3_64_intdigest

from kvproxy.core.items import items_of
from kvproxy.core.segments import Segment
from kvproxy.core.types import Chain

# The first 32 KiB of text, some 8k tokens, in blocks of an eighth: one or two engine blocks each.
FINE_TEXT_BYTES = 32 * 2**10
_FINER = 8
_SLICED_AT_ONCE = 64
# So many segments can be counted in two bytes.
_SHORT_MAX = 0xFFFF


def extend(
    chain: Chain, segments: Iterable[Segment], block_bytes: int, fine_text_bytes: int = 0
) -> None:
    """Append the blocks of `segments` to `chain` in place; work is proportional to them alone.

    Blocks are of `block_bytes`, finer where they begin within the first `fine_text_bytes` of text.
    """
    assert block_bytes > 0
    segments = list(segments)
    fine_bytes = max(1, block_bytes // _FINER)
    text = chain.text_bytes[-1] if chain.text_bytes else 0
    number = len(chain.items)
    texts: list[int] = []
    numbers: list[int] = []
    # Every hash is the seed of the next one: `seeds` are what digests add to `links`.
    links = [chain.end]
    seeds = iter(links)
    for segment in segments:
        data, last = segment.data, text + segment.text_bytes
        # Where it begins, counted in the text of the whole prompt.
        begin = text - segment.text_start
        fine = fine_text_bytes - begin if text < fine_text_bytes else 0
        done, size = 0, len(data) - 1
        cut_bytes = fine_bytes if fine else block_bytes
        while (count := (size - done) // cut_bytes) > 0:
            count = min(count, _SLICED_AT_ONCE)
            if done < fine:
                count = min(count, -((done - fine) // fine_bytes))
            links += map(xxh3_64_intdigest, _slicer(cut_bytes, count)(data, done), seeds)
            first = begin + done + cut_bytes
            done += count * cut_bytes
            end = begin + done
            cuts = range(first, end + 1, cut_bytes)
            texts += cuts if text <= first and end <= last else _within(cuts, text, last)
            numbers += [number] * count
            if done >= fine:
                cut_bytes = block_bytes
        links.append(xxh3_64_intdigest(data[done:], next(seeds)))
        number += 1
        texts.append(last)
        numbers.append(number)
        text = last
    chain.hashes.fromlist(links[1:])
    chain.text_bytes.fromlist(texts)
    if number > _SHORT_MAX and chain.segments.typecode == "H":
        chain.segments = array("I", chain.segments)
    chain.segments.fromlist(numbers)
    chain.items.fromlist(items_of(segments))


def _within(cuts: Sequence[int], text: int, last: int) -> list[int]:
    """No text before it begins, no more where it has ended."""
    low, high = bisect_left(cuts, text), bisect_right(cuts, last)
    return [*repeat(text, low), *cuts[low:high], *repeat(last, len(cuts) - high)]


@lru_cache(1024)
def _slicer(size: int, count: int) -> Callable[[bytes, int], tuple[bytes, ...]]:
    """Slices all at once, three times as fast as one by one."""
    return Struct(f"{size}s" * count).unpack_from


def root(*parts: str) -> int:
    """Seed of a chain that must never match that of another model."""
    return xxh3_64_intdigest("\0".join(f"{len(part)}:{part}" for part in parts).encode())
