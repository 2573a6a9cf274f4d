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
from itertools import chain as chained
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
        # Where it begins, and below where it was cut, counted in the text of the whole prompt.
        at = text - segment.text_start
        if text < fine_text_bytes:
            cuts = _fine_cuts(at, len(data), block_bytes, fine_bytes, fine_text_bytes)
        else:
            cuts = ((block_bytes, (len(data) - 1) // block_bytes),)
        rest = 0
        for cut_bytes, count in cuts:
            if count > 0:
                links += map(xxh3_64_intdigest, _pieces(data, rest, cut_bytes, count), seeds)
                first, at = at + cut_bytes, at + count * cut_bytes
                rest += count * cut_bytes
                cut = range(first, at + 1, cut_bytes)
                texts += cut if text <= first and at <= last else _within(cut, text, last)
                numbers += [number] * count
        links.append(xxh3_64_intdigest(data[rest:], next(seeds)))
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


def _fine_cuts(
    begin: int, size: int, block_bytes: int, fine_bytes: int, fine_text_bytes: int
) -> tuple[tuple[int, int], ...]:
    """(bytes of each, how many) blocks of a segment that begins among the fine ones, but for its
    last block."""
    if begin + size <= fine_text_bytes:
        return ((fine_bytes, (size - 1) // fine_bytes),)
    # Those that begin before they end.
    fine = min((size - 1) // fine_bytes, -((begin - fine_text_bytes) // fine_bytes))
    return (fine_bytes, fine), (block_bytes, (size - 1 - fine * fine_bytes) // block_bytes)


def _within(cuts: Sequence[int], text: int, last: int) -> list[int]:
    """No text before it begins, no more where it has ended."""
    low, high = bisect_left(cuts, text), bisect_right(cuts, last)
    return [*repeat(text, low), *cuts[low:high], *repeat(last, len(cuts) - high)]


def _pieces(data: bytes, at: int, size: int, count: int) -> Iterable[bytes]:
    """All at once, three times as fast as one by one."""
    if count <= _SLICED_AT_ONCE:
        return _slicer(size, count)(data, at)
    return chained.from_iterable(
        _slicer(size, min(_SLICED_AT_ONCE, count - done))(data, at + done * size)
        for done in range(0, count, _SLICED_AT_ONCE)
    )


@lru_cache(1024)
def _slicer(size: int, count: int) -> Callable[[bytes, int], tuple[bytes, ...]]:
    return Struct(f"{size}s" * count).unpack_from


def root(*parts: str) -> int:
    """Seed of a chain that must never match that of another model."""
    return xxh3_64_intdigest("\0".join(f"{len(part)}:{part}" for part in parts).encode())
