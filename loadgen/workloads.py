"""Conversations made for one question each: is there a cache, what is it worth, how much fits.

All are ordinary traces, so they are replayed, timed and counted as recordings are.
"""

from collections.abc import Iterator, Sequence

from loadgen.traces.model import BlockIds, Trace, Turn

BLOCK = 64


def cold_warm(prompt_tokens: int, pairs: int, name: str = "cold-warm") -> list[Trace]:
    """`pairs` conversations that send one prompt of their own, cold, and the same again, warm."""
    return [_trace(f"{name}-{n}", [_turn(prompt_tokens)] * 2) for n in range(pairs)]


def hit_rate(share: float, prompt_tokens: int, users: int, turns: int) -> list[Trace]:
    """Conversations whose first prompt primes the cache; `share` of every further prompt is the
    beginning of the first, the rest nobody has sent."""
    assert 0 <= share <= 1
    blocks = prompt_tokens // BLOCK
    kept = round(share * blocks)
    prompts = [_turn(prompt_tokens)]
    for index in range(turns):
        fresh = blocks * (index + 1) + 1
        ids = [*range(1, kept + 1), *range(fresh, fresh + blocks - kept)]
        prompts.append(_turn(prompt_tokens, ids))
    return [_trace(f"hit-{share * 100:.0f}-{n}", prompts) for n in range(users)]


def working_set(tokens: int, prompt_tokens: int, rounds: int) -> list[Trace]:
    """Conversations of one prompt each, together about `tokens`, every one sent `rounds` times:
    once the caches are smaller, least-recently-used eviction drops each before its next turn."""
    count = max(1, round(tokens / prompt_tokens))
    return [_trace(f"set-{tokens}-{n}", [_turn(prompt_tokens)] * rounds) for n in range(count)]


def doubling(least: int, most: int) -> Iterator[int]:
    """`least`, twice that, … and at the end `most`."""
    while least < most:
        yield least
        least *= 2
    yield most


def _turn(tokens: int, ids: Sequence[int] | None = None) -> Turn:
    blocks = BlockIds.of(ids if ids is not None else range(1, tokens // BLOCK + 1))
    return Turn(t_s=0.0, input_tokens=tokens, output_tokens=1, blocks=blocks, think_s=1.0)


def _trace(name: str, turns: Sequence[Turn]) -> Trace:
    return Trace(name, BLOCK, 0, tuple(turns))
