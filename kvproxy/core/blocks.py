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
    """As append() of one part."""
    append(chain, (segments,), block_bytes, fine_text_bytes)


def append(
    chain: Chain, parts: Iterable[Iterable[Segment]], block_bytes: int, fine_text_bytes: int = 0
) -> list[int]:
    """Append the blocks of these segments to `chain` in place, and say which segment is the first
    of each part. Work is proportional to them alone; one is let go before the next is asked for.

    Blocks are of `block_bytes`, finer where they begin within the first `fine_text_bytes` of text.
    """
    assert block_bytes > 0
    text, before, number = _text(chain), len(chain.hashes) - 1, len(chain.items)
    fine_bytes = max(1, block_bytes // _FINER)
    # Every hash is the seed of the next one: `seeds` are what digests add to `links`.
    links, texts, ends, items = [chain.end], [text], list[int](), list[int]()
    seeds, firsts = iter(links), list[int]()
    for part in parts:
        firsts.append(number + len(items))
        for segment in part:
            data, last = segment.data, text + segment.text_bytes
            # Where it begins, counted in the text of the whole prompt.
            begin = text - segment.text_start
            if text < fine_text_bytes:
                fine = -((begin - fine_text_bytes) // fine_bytes)
                fine = min(fine, (len(data) - 1) // fine_bytes)
                if fine > 0:
                    links += map(xxh3_64_intdigest, _cutter(fine_bytes, fine)(data), seeds)
                    texts += _ends(begin, fine_bytes, fine, text, last)
                    data, begin = data[fine * fine_bytes :], begin + fine * fine_bytes
            if len(data) > block_bytes:
                blocks = (len(data) - 1) // block_bytes + 1
                links += map(xxh3_64_intdigest, _cutter(block_bytes, blocks)(data), seeds)
                if begin + block_bytes < text:
                    texts += _ends(begin, block_bytes, blocks - 1, text, last)
                else:
                    texts += range(begin + block_bytes, last, block_bytes)
                # What stands behind the text has none.
                texts += repeat(last, len(links) - len(texts))
            else:
                links.append(xxh3_64_intdigest(data, next(seeds)))
                texts.append(last)
            ends.append(before + len(texts))
            items.append(item_of(segment))
            text = last
    chain.hashes.fromlist(links[1:])
    chain.text_bytes.fromlist(texts[1:])
    chain.segment_ends.fromlist(ends)
    chain.items.fromlist(items)
    return firsts


def _text(chain: Chain) -> int:
    return chain.text_bytes[-1] if chain.text_bytes else 0


def _ends(begin: int, size: int, count: int, text: int, last: int) -> Sequence[int]:
    """How much text there is up to the end of each block: none before it begins, no more where it
    has ended."""
    first, end = begin + size, begin + count * size
    cuts = range(first, end + 1, size)
    if text <= first and end <= last:
        return cuts
    low, high = bisect_left(cuts, text), bisect_right(cuts, last)
    return [*repeat(text, low), *cuts[low:high], *repeat(last, count - high)]


@lru_cache(256)
def _cutter(size: int, count: int) -> Callable[[bytes], Iterable[bytes]]:
    """Cuts off the first `count` blocks."""
    if count > _CUT_AT_ONCE or count < 2:
        return partial(_one_by_one, size, count)
    return itemgetter(*[slice(at, at + size) for at in range(0, count * size, size)])


def _one_by_one(size: int, count: int, data: bytes) -> Iterable[bytes]:
    end = count * size
    return map(data.__getitem__, map(slice, range(0, end, size), range(size, end + 1, size)))


def root(*parts: str) -> int:
    """Seed of a chain that must never match that of another model."""
    return xxh3_64_intdigest("\0".join(f"{len(part)}:{part}" for part in parts).encode())
