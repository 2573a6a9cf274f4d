"""Cost of the engine model and of what the emulator does per request; nothing is asserted by
time."""

import random

import msgspec

from loadgen.chat_template import ChatTemplate
from loadgen.emulator.fields import read_object
from loadgen.emulator.requests import chat_call
from loadgen.engine_model import (
    Admitted,
    ChainHasher,
    Engine,
    EngineLimits,
    EngineRates,
    Finished,
    Request,
)
from loadgen.tokens import StandInTokeniser, render

CONCURRENT = 48
OUTPUT_TOKENS = 300
REQUESTS = 400


def play_sessions(sessions: int, hbm_tokens: int, dram_tokens: int) -> tuple[int, float]:
    """Requests with growing prompts of some 100k tokens in virtual time: how many ended, and the
    share of their tokens that hit."""
    rng = random.Random(1)
    chains = [rng.randbytes(8 * 8000) for _ in range(sessions)]
    lengths = [90_000 + rng.randrange(10_000) for _ in range(sessions)]
    limits = EngineLimits(hbm_tokens=hbm_tokens, dram_tokens=dram_tokens)
    engine = Engine(EngineRates(), limits, token_emissions=False)
    now, submitted, ended, prompt_tokens, hits = 0.0, 0, 0, 0, 0
    while ended < REQUESTS:
        while submitted < REQUESTS and submitted - ended < CONCURRENT:
            session = submitted % sessions
            length = lengths[session]
            lengths[session] = length + 1300
            blocks = (length + OUTPUT_TOKENS - 1) // 16
            chain = chains[session][: 8 * blocks]
            engine.submit(Request(str(submitted), chain, length, OUTPUT_TOKENS), now)
            submitted += 1
            prompt_tokens += length
        at = engine.next_event_time()
        assert at is not None
        now = at
        for emission in engine.advance(now):
            if isinstance(emission, Finished):
                ended += 1
            elif isinstance(emission, Admitted):
                hits += emission.hbm_hit + emission.dram_hit
    return ended, hits / prompt_tokens


def test_warm_sessions(benchmark):
    ended, hit_rate = benchmark(play_sessions, 64, 8_000_000, 0)
    assert ended == REQUESTS
    assert hit_rate > 0.7


def test_sessions_that_evict_each_other(benchmark):
    ended, hit_rate = benchmark(play_sessions, 64, 2_000_000, 0)
    assert ended == REQUESTS
    assert hit_rate < 0.1


def test_two_tiers(benchmark):
    ended, hit_rate = benchmark(play_sessions, 64, 2_000_000, 8_000_000)
    assert ended == REQUESTS
    assert hit_rate > 0.7


def body_of(size: int) -> bytes:
    """A conversation of `size` bytes of text in messages of 2 kB."""
    rng = random.Random(1)
    text = "".join(rng.choices("abcdefghij klmnopqrst\n", k=2000))
    messages = [
        {"role": "user" if turn % 2 else "assistant", "content": f"{turn}{text}"}
        for turn in range(size // 2000)
    ]
    return msgspec.json.encode({"model": "emu", "messages": messages})


def test_400_kb_prompt_cold(benchmark):
    def cold() -> bytes:
        return prepare(ChainHasher(16), ChatTemplate(), body)

    body = body_of(400_000)
    assert len(benchmark(cold)) > 8 * 6000


def test_400_kb_prompt_seen_before(benchmark):
    body = body_of(400_000)
    hasher, template = ChainHasher(16), ChatTemplate()
    assert len(benchmark(prepare, hasher, template, body)) > 8 * 6000


def prepare(hasher: ChainHasher, template: ChatTemplate, body: bytes) -> bytes:
    """All that happens to a body before the engine sees it."""
    call = chat_call(read_object(body, "application/json"))
    return hasher.chain(render(StandInTokeniser(), template.pieces(call.messages, call.tools)))
