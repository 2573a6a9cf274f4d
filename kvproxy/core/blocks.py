"""The byte chain: H_i = xxh3(block_i, seed = H_{i-1}).

Every segment ends a block, so a conversation that only grows keeps all earlier hashes; long
segments are cut every `block_bytes`, so that a shared beginning of a long text is found too.
"""

from collections.abc import Iterable

from xxhash import xxh3_64_intdigest

from kvproxy.core.segments import Segment
from kvproxy.core.types import Chain


def extend(chain: Chain, segments: Iterable[Segment], block_bytes: int) -> None:
    """Append the blocks of `segments` to `chain` in place; work is proportional to them alone."""
    assert block_bytes > 0
    parent = chain.end
    text = chain.text_bytes[-1] if chain.text_bytes else 0
    count = chain.segments[-1] if chain.segments else 0
    for data, text_start, text_bytes in segments:
        for start in range(0, max(len(data), 1), block_bytes):
            end = start + block_bytes
            parent = xxh3_64_intdigest(data[start:end], parent)
            chain.hashes.append(parent)
            chain.text_bytes.append(text + min(max(0, end - text_start), text_bytes))
            chain.segments.append(count)
        text += text_bytes
        count += 1
        chain.segments[-1] = count


def root(*parts: str) -> int:
    """Seed of a chain that must never match another tenant's, model's or salt's."""
    return xxh3_64_intdigest("\0".join(f"{len(part)}:{part}" for part in parts).encode())
