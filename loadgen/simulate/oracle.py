"""What perfect knowledge would give: engines are asked what they hold, instead of believed."""

from collections.abc import Mapping, Sequence

from kvproxy.core.holdings import Holdings
from kvproxy.core.prefix_index import PrefixIndex
from kvproxy.core.replica import Replica
from kvproxy.core.ruler import Ruler
from kvproxy.core.score import Match
from kvproxy.core.sent import Prompt
from kvproxy.core.token_chain import TokenChains
from loadgen.engine_model import Engine
from loadgen.simulate.fluid import FluidEngine


class Oracle(Holdings):
    """`engines` by replica id. Chains are engine blocks here, so hashes need no translation."""

    def __init__(self, ruler: Ruler, engines: Mapping[str, Engine | FluidEngine]) -> None:
        super().__init__(ruler, PrefixIndex(2**20), TokenChains(2**20))
        self._engines = engines

    def matches(self, replicas: Sequence[Replica], prompt: Prompt) -> list[Match]:
        return [self.match(replica, prompt) for replica in replicas]

    def match(self, replica: Replica, prompt: Prompt) -> Match:
        blocks, hbm = self._engines[replica.id].match(prompt.chain.hashes.tobytes())
        whole = (prompt.tokens - 1) // replica.block_size
        tokens = min(blocks, whole) * replica.block_size
        in_hbm = min(hbm, whole) * replica.block_size
        return Match(blocks, tokens, dram=tokens - in_hbm, by_history=tokens)
