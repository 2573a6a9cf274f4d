"""The byte chain: H_i = xxh3(block_i, seed = H_{i-1}).

Every segment ends a block, so a conversation that only grows keeps all earlier hashes; long
segments are cut, so that a shared beginning of a long text is found too. The beginning of a prompt
is what different conversations share, and they part in the middle of a system text: there blocks
are finer.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache, partial
from itertools import repeat
from operator import itemgetter

from xxhash import xxh3_64_intdigest

from kvproxy.core.items import item_of
from kvproxy.core.segments import Segment
from kvproxy.core.types import Chain

# The first 32 KiB of text, some 8k tokens, in blocks of an eighth: one or two engine blocks each.
FINE_TEXT_BYTES = 32 * 2**10
_FINER = 8
# More are cut one by one, which takes longer.
_CUT_AT_ONCE = 64


def extend(
    chain: Chain, segments: Iterable[Segment], block_bytes: int, fine_text_bytes: int = 0
) -> None:
    """Append the blocks of `segments` to `chain` in place; work is proportional to them alone, and
    each is let go before the next one is asked for.

    Blocks are of `block_bytes`, finer where they begin within the first `fine_text_bytes` of text.
    """
    assert block_bytes > 0
    text, before = chain.text_bytes[-1] if chain.text_bytes else 0, len(chain.hashes)
    # Every hash is the seed of the next one: `seeds` are what digests add to `links`.
    links, texts, ends, items = [chain.end], list[int](), list[int](), list[int]()
    seeds = iter(links)
    for segment in segments:
        data, last = segment.data, text + segment.text_bytes
        # Where it begins, counted in the text of the whole prompt.
        begin = text - segment.text_start
        if text < fine_text_bytes:
            fine_bytes = max(1, block_bytes // _FINER)
            fine = min((len(data) - 1) // fine_bytes, -((begin - fine_text_bytes) // fine_bytes))
            if fine > 0:
                links += map(xxh3_64_intdigest, _cutter(fine_bytes, fine)(data), seeds)
                end = begin + fine * fine_bytes
                texts += _within(range(begin + fine_bytes, end + 1, fine_bytes), text, last)
                data, begin = data[end - begin :], end
        blocks = (len(data) - 1) // block_bytes + 1 or 1
        links += map(xxh3_64_intdigest, _cutter(block_bytes, blocks)(data), seeds)
        first = begin + block_bytes
        if first < text:
            cuts = range(first, first + (blocks - 1) * block_bytes, block_bytes)
            texts += _within(cuts, text, last)
        else:
            texts += range(first, last, block_bytes)
        # What stands behind the text has none.
        texts += repeat(last, len(links) - 1 - len(texts))
        ends.append(before + len(texts))
        items.append(item_of(segment))
        text = last
    chain.hashes.fromlist(links[1:])
    chain.text_bytes.fromlist(texts)
    chain.segment_ends.fromlist(ends)
    chain.items.fromlist(items)


def _within(cuts: Sequence[int], text: int, last: int) -> list[int]:
    """No text before it begins, no more where it has ended."""
    low, high = bisect_left(cuts, text), bisect_right(cuts, last)
    return [*repeat(text, low), *cuts[low:high], *repeat(last, len(cuts) - high)]


@lru_cache(256)
def _cutter(size: int, count: int) -> Callable[[bytes], Iterable[bytes]]:
    """Cuts off the first `count` blocks."""
    if count > _CUT_AT_ONCE:
        return partial(_one_by_one, size, count)
    if count == 1:
        return partial(_first, size)
    return itemgetter(*[slice(at, at + size) for at in range(0, count * size, size)])


def _one_by_one(size: int, count: int, data: bytes) -> Iterable[bytes]:
    end = count * size
    return map(data.__getitem__, map(slice, range(0, end, size), range(size, end + 1, size)))


def _first(size: int, data: bytes) -> Iterable[bytes]:
    return (data[:size],)


def root(*parts: str) -> int:
    """Seed of a chain that must never match that of another model."""
    return xxh3_64_intdigest("\0".join(f"{len(part)}:{part}" for part in parts).encode())
