"""What an answered turn teaches: token counts, a prefill rate, and what other proxies can use."""

from collections.abc import Callable

from kvproxy.core.echo_rate import EchoRate
from kvproxy.core.kept_answers import go_on
from kvproxy.core.learn_end import learn_end
from kvproxy.core.placement import Placement
from kvproxy.core.ruler import Ruler
from kvproxy.core.types import Learned, Usage

Teach = Callable[[Learned], None]
# A prompt of which more is believed to be cached says little about the rest.
_COLD_SHARE = 0.125
# What ends sooner behind its first byte, in seconds, may be an error, or a whole answer, whose
# first byte came after its last token.
_STREAM_S = 0.01


def learn(
    ruler: Ruler, echo_rate: EchoRate, placement: Placement, usage: Usage, teach: Teach | None
) -> None:
    """Before the claim is settled: what was found in the cache is looked at as it was."""
    placing, hold, replica = placement.placing, placement.hold, placement.replica
    chain, match, model = placing.chain, placing.match, placing.identity.model
    ruler.learn(chain, len(chain.hashes), usage.prompt_tokens, model)
    cached = usage.cached_tokens
    if cached is None or placing.remote is not None:
        return
    if cached and match.blocks < len(chain.hashes) and match.source == "history":
        learn_end(ruler, replica, chain, match, cached=cached, model=model)
    repeats = placement.repeats
    again = repeats.found(cached, usage.prompt_tokens) if repeats.stop else None
    if again is not None:
        echo_rate.saw(model, again=again)
        if again:
            go_on(replica.hbm, repeats.prompt_hash)
            if replica.dram is not None:
                go_on(replica.dram, repeats.prompt_hash)
    # Some count as cached what lies behind the prompt, too.
    miss, ttft_s = max(0, usage.prompt_tokens - cached), 0.0
    if hold.first_token_at is not None and not (match.dram or match.disk):
        ttft_s = hold.first_token_at - hold.at
        replica.rate.observe(miss, ttft_s, hold.alone, usage.prompt_tokens)
    if teach is not None and chain.hashes:
        clean_s = ttft_s if hold.alone else 0.0
        teach(Learned(replica.id, chain.end, usage.prompt_tokens, miss, clean_s))


def unsaid(
    placement: Placement, prompt_tokens: int, ended_at: float, *, streamed: bool = False
) -> None:
    """An engine that does not say what it found in its cache still took its time. `streamed`: it is
    known that its first byte came with its first token, however soon it ended."""
    placing, hold = placement.placing, placement.hold
    began = hold.first_token_at
    if began is None or placing.remote is not None:
        return
    if streamed or ended_at - began >= _STREAM_S:
        match = placing.match
        if match.tokens <= _COLD_SHARE * prompt_tokens:
            miss = prompt_tokens - match.tokens
            placement.replica.rate.guess(miss, began - hold.at, hold.alone)
