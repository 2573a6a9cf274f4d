"""The opening that conversations of one client have in common: tool definitions and system text.

Traces do not say what two conversations share, only how much of each is tools and system text.
So the share is an assumption of the replay: one text for all of a kind, as clients of one version
send it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from loadgen.traces.model import Trace


@dataclass(frozen=True, slots=True)
class Warm:
    """Tokens at the head of every prompt that all conversations, or all sub-agents, share. A
    prompt whose own tools and system text are shorter shares no more than those."""

    main: int = 0
    sub_agents: int = 0

    @classmethod
    def of(cls, traces: Sequence[Trace], share: float) -> "Warm":
        """`share` of the median size of tools and system text in the set."""
        inner = [agent.fixed_tokens for trace in traces for agent in trace.sub_agents]
        return cls(
            int(share * median(trace.fixed_tokens for trace in traces)),
            int(share * median(inner)) if inner else 0,
        )

    def blocks(self, fixed_tokens: int, block_size: int, *, sub_agent: bool) -> int:
        shared = self.sub_agents if sub_agent else self.main
        return min(shared, fixed_tokens) // block_size
